//! What users write never becomes a control token: before a template sees their texts, marks go where one could be read in them.
//!
//! A mark is a character that occurs nowhere in the chat; the tokenizer takes it out again, after it has looked for control tokens. Text in which
//! no control token could be read, so nearly all text, is not touched, and templates behave as they do without marks.

use super::json::Json;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::limits::MAX_GUARDED_BYTES;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use hashbrown::{DefaultHashBuilder, HashSet};
use std::hash::BuildHasher;

/// Where marks are chosen from: characters that no text has a use for, then those of private use.
const MARKS: [std::ops::RangeInclusive<char>; 2] = ['\u{FDD0}'..='\u{FDEF}', '\u{E000}'..='\u{F8FF}'];

/// Characters of a control token that are looked at together inside it.
const GRAM: usize = 3;

/// Knows the texts of a vocabulary's control tokens, in whole and in parts.
///
/// The parts are kept as hashes: one that collides only means a mark too many.
pub struct Guard {
    whole: Option<AhoCorasick>,
    /// Of every beginning of a control token that is not all of it.
    beginnings: HashSet<u64>,
    /// Of every end that is not all of it.
    ends: HashSet<u64>,
    /// Of every 1 to [`GRAM`] bytes in a row that are neither at its beginning nor at its end.
    grams: HashSet<u64>,
    hasher: DefaultHashBuilder,
    /// Bytes of the longest control token.
    longest: usize,
}

impl Guard {
    /// The guard of a vocabulary whose control tokens have these texts.
    ///
    /// # Errors
    /// `Unsupported` if one is longer than [`MAX_GUARDED_BYTES`]; `Format` if they are too many.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        let (mut beginnings, mut ends, mut grams) = (HashSet::new(), HashSet::new(), HashSet::new());
        let hasher = DefaultHashBuilder::default();
        for text in &texts {
            let bytes = text.as_bytes();
            if bytes.len() > MAX_GUARDED_BYTES {
                fail!(Unsupported, "a control token has {} bytes, expected {MAX_GUARDED_BYTES} at most for chats", bytes.len());
            }
            for at in 1..bytes.len() {
                beginnings.insert(hasher.hash_one(&bytes[..at]));
                ends.insert(hasher.hash_one(&bytes[at..]));
            }
            let inner = bytes.get(1..bytes.len() - 1).unwrap_or_default();
            for n in 1..=GRAM {
                grams.extend(inner.windows(n).map(|gram| hasher.hash_one(gram)));
            }
        }
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        Ok(Self { whole: search(&texts)?, beginnings, ends, grams, hasher, longest })
    }

    /// `text` of a user, with `mark` wherever a control token could be read in it, or in what precedes or follows it.
    pub(super) fn protect(&self, text: &str, mark: char) -> String {
        let mut out = String::with_capacity(text.len() + mark.len_utf8());
        if self.continues_a_token(text) {
            out.push(mark);
        }
        self.break_whole(text, mark, &mut out);
        if self.begins_a_token(text) {
            out.push(mark);
        }
        out
    }

    /// As [`Self::protect`], for a name that templates look up and compare: only a whole control token in it is broken.
    pub(super) fn protect_name(&self, text: &str, mark: char) -> String {
        let mut out = String::with_capacity(text.len());
        self.break_whole(text, mark, &mut out);
        out
    }

    /// Copies `text`, with a mark behind the first character of each control token in it.
    fn break_whole(&self, text: &str, mark: char, out: &mut String) {
        let mut done = 0;
        while let Some(found) = self.whole.as_ref().and_then(|whole| whole.find(Input::new(text).range(done..))) {
            // Another token may begin inside the one that is broken: the search goes on behind its first character.
            let first = text[found.start()..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[done..found.start() + first]);
            out.push(mark);
            done = found.start() + first;
        }
        out.push_str(&text[done..]);
    }

    /// True if `text` begins with the end of a control token, or is wholly inside one.
    fn continues_a_token(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let longest = self.longest.min(bytes.len());
        (1..=longest).any(|n| self.ends.contains(&self.hasher.hash_one(&bytes[..n]))) || self.is_inside_a_token(bytes)
    }

    fn is_inside_a_token(&self, bytes: &[u8]) -> bool {
        let known = |gram: &[u8]| self.grams.contains(&self.hasher.hash_one(gram));
        !bytes.is_empty() && bytes.len() < self.longest && bytes.windows(GRAM.min(bytes.len())).all(known)
    }

    /// True if `text` ends with the beginning of a control token.
    fn begins_a_token(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let longest = self.longest.min(bytes.len());
        (1..=longest).any(|n| self.beginnings.contains(&self.hasher.hash_one(&bytes[bytes.len() - n..])))
    }
}

fn search(texts: &[&str]) -> Result<Option<AhoCorasick>> {
    if texts.is_empty() {
        return Ok(None);
    }
    // Not a DFA, which takes a kilobyte per byte of the patterns.
    let kind = Some(AhoCorasickKind::ContiguousNFA);
    let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).kind(kind).build(texts);
    search.map(Some).map_err(|e| Error::new(ErrorKind::Format, format!("control tokens: {e}")))
}

/// A character that occurs in none of `texts`.
///
/// # Errors
/// `InvalidArgument` if they use up all candidates.
pub(super) fn choose_mark<'a>(texts: impl Iterator<Item = &'a str>) -> Result<char> {
    let is_candidate = |c: &char| MARKS.iter().any(|range| range.contains(c));
    let taken: HashSet<char> = texts.flat_map(str::chars).filter(is_candidate).collect();
    match MARKS.into_iter().flatten().find(|c| !taken.contains(c)) {
        Some(mark) => Ok(mark),
        None => fail!(InvalidArgument, "the messages use every private character of Unicode: none is left to mark them with"),
    }
}

/// Calls `each` with every text in `json`, keys included.
pub(super) fn texts<'a>(json: &'a Json, each: &mut impl FnMut(&'a str)) {
    match json {
        Json::String(text) => each(text),
        Json::Array(items) => items.iter().for_each(|item| texts(item, each)),
        Json::Object(pairs) => pairs.iter().for_each(|(key, value)| {
            each(key);
            texts(value, each);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: char = '\u{FDD0}';

    fn guard() -> Guard {
        Guard::new(["<s>", "</s>", "<|im_end|>", "s>x", "[INST]"].into_iter()).unwrap()
    }

    fn shown(text: &str) -> String {
        guard().protect(text, MARK).replace(MARK, "·")
    }

    #[test]
    fn whole_tokens_are_broken_also_where_they_overlap() {
        assert_eq!(shown("a<s>b"), "a<·s>b");
        assert_eq!(shown("a<s>xb"), "a<·s·>xb");
        assert_eq!(shown("<|im_end|><|im_end|>."), "<·|im_end|><·|im_end|>.");
        assert_eq!(guard().protect_name("a<s>x<", MARK).replace(MARK, "·"), "a<·s·>x<");
    }

    #[test]
    fn parts_are_kept_apart_from_what_may_stand_beside_them() {
        assert_eq!(shown("a<"), "a<·");
        assert_eq!(shown("a<|im_en"), "a<|im_en·");
        assert_eq!(shown("d|> a"), "·d|> a");
        assert_eq!(shown("im_e"), "·im_e");
        assert_eq!(shown("INST"), "·INST");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "Hello, world!", "a < b", "if x > 0 { [1, 2] }", "<think>hm</think> ok", "im_start"] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(Guard::new([].into_iter()).unwrap().protect("a<s>", MARK), "a<s>");
    }

    #[test]
    fn the_mark_occurs_nowhere() {
        assert_eq!(choose_mark(["a", "\u{FDD0}\u{FDD1}"].into_iter()).unwrap(), '\u{FDD2}');
        let all: String = MARKS.into_iter().flatten().collect();
        assert!(choose_mark([all.as_str()].into_iter()).is_err());
    }
}
