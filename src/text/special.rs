//! Finding the tokens that are searched for as a whole, before any text is cut or merged: control and user-defined ones.
//!
//! For `encode`. Text from a user never becomes a control token unless the caller asks for it: there are two automata,
//! and the one for plain text does not know the control tokens.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::limits::MAX_SPECIAL_BYTES;
use crate::text::unicode::{Classes, LETTER, MARK, NUMBER};
use crate::text::vocabulary::Vocabulary;
use crate::text::{Token, TokenType};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hashbrown::HashMap;

/// How an added token is found, beyond its text. The names are those of `tokenizer.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchRules {
    /// White space before it belongs to it.
    pub lstrip: bool,
    /// White space after it belongs to it.
    pub rstrip: bool,
    /// It must not touch a letter, digit or underscore.
    pub single_word: bool,
}

/// A stretch of text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stretch<'a> {
    /// To be cut and merged. Not empty.
    Text {
        text: &'a str,
        /// It is the start of the whole text.
        first: bool,
    },
    /// One token.
    Token(Token),
}

/// The automata of a vocabulary.
pub(super) struct SpecialTokens {
    /// User-defined tokens only.
    plain: Option<Automaton>,
    /// Control tokens too.
    all: Option<Automaton>,
}

struct Automaton {
    search: AhoCorasick,
    /// The token of each pattern.
    tokens: Vec<(Token, MatchRules)>,
}

impl SpecialTokens {
    /// # Errors
    /// `Format` if rules name no token, or the texts exceed a cap.
    pub(super) fn new(vocabulary: &Vocabulary, rules: &[(Token, MatchRules)]) -> Result<Self> {
        if let Some((token, _)) = rules.iter().find(|&&(token, _)| vocabulary.token_type(token).is_none()) {
            fail!(Format, "added token {token} is not in the vocabulary");
        }
        let rules = rules.iter().copied().collect();
        let is_plain = |kind| kind == TokenType::UserDefined;
        let plain = Automaton::new(vocabulary, &rules, is_plain)?;
        let all = Automaton::new(vocabulary, &rules, |kind| kind.is_guarded() || is_plain(kind))?;
        Ok(Self { plain, all })
    }

    /// Calls `each` with the stretches of `text` in order; control tokens are found only if `parse_special`.
    pub(super) fn split<'a>(
        &self,
        classes: &Classes,
        text: &'a str,
        parse_special: bool,
        each: &mut impl FnMut(Stretch<'a>) -> Result<()>,
    ) -> Result<()> {
        let automaton = if parse_special { &self.all } else { &self.plain };
        let mut done = 0;
        if let Some(automaton) = automaton {
            for found in automaton.search.find_iter(text) {
                let (token, rules) = automaton.tokens[found.pattern().as_usize()];
                let Some((start, end)) = rules.apply(classes, text, (found.start(), found.end()), done) else { continue };
                between(text, done, start, each)?;
                each(Stretch::Token(token))?;
                done = end;
            }
        }
        between(text, done, text.len(), each)
    }
}

/// Reports the text from `start` to `end`, unless it is empty.
fn between<'a>(text: &'a str, start: usize, end: usize, each: &mut impl FnMut(Stretch<'a>) -> Result<()>) -> Result<()> {
    match text.get(start..end) {
        None | Some("") => Ok(()),
        Some(text) => each(Stretch::Text { text, first: start == 0 }),
    }
}

impl Automaton {
    /// The automaton of the tokens whose type `belongs` accepts, if there are any.
    fn new(vocabulary: &Vocabulary, rules: &HashMap<Token, MatchRules>, belongs: impl Fn(TokenType) -> bool) -> Result<Option<Self>> {
        let (mut texts, mut tokens, mut n_bytes) = (Vec::new(), Vec::new(), 0usize);
        for (token, _) in vocabulary.iter().filter(|&(_, kind)| belongs(kind)) {
            let text = vocabulary.text(token).unwrap_or_default();
            if std::str::from_utf8(text).is_err() || text.is_empty() {
                continue; // no text contains it
            }
            n_bytes = n_bytes.saturating_add(text.len());
            texts.push(text);
            tokens.push((token, rules.get(&token).copied().unwrap_or_default()));
        }
        if n_bytes > MAX_SPECIAL_BYTES {
            fail!(Format, "the special tokens have {n_bytes} bytes, expected {MAX_SPECIAL_BYTES} at most");
        }
        if texts.is_empty() {
            return Ok(None);
        }
        // Not a DFA, which the builder would choose for few patterns: it takes a kilobyte per byte of them.
        let kind = Some(AhoCorasickKind::ContiguousNFA);
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).kind(kind).build(texts);
        let search = search.map_err(|e| Error::new(ErrorKind::Format, format!("special tokens: {e}")))?;
        Ok(Some(Self { search, tokens }))
    }
}

impl MatchRules {
    /// What a match at `start..end` takes of `text`, of which all before `done` is taken; `None` if it does not count.
    fn apply(self, classes: &Classes, text: &str, (start, end): (usize, usize), done: usize) -> Option<(usize, usize)> {
        let (before, after) = (text.get(done..start)?, text.get(end..)?);
        let is_word = |c: Option<char>| c.is_some_and(|c| c == '_' || classes.of(c) & (LETTER | NUMBER | MARK) != 0);
        let touches = is_word(text[..start].chars().next_back()) || is_word(after.chars().next());
        if self.single_word && touches {
            return None;
        }
        let start = if self.lstrip { done + before.trim_end().len() } else { start };
        let end = if self.rstrip { text.len() - after.trim_start().len() } else { end };
        Some((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::job;
    use crate::text::{Alphabet, VocabularyData};
    use std::borrow::Cow;

    const TOKENS: [(&str, TokenType); 6] = [
        ("<s>", TokenType::Control),
        ("<s><s>", TokenType::Control),
        ("<unk>", TokenType::Unknown),
        ("abc", TokenType::UserDefined),
        ("bcdef", TokenType::UserDefined),
        ("x", TokenType::Normal),
    ];

    fn split(rules: MatchRules, parse_special: bool, text: &str) -> String {
        let data = VocabularyData {
            tokens: TOKENS.iter().map(|(text, _)| Cow::Borrowed(text.as_bytes())).collect(),
            types: TOKENS.iter().map(|&(_, kind)| kind).collect(),
            ..VocabularyData::empty(Alphabet::Characters)
        };
        let special = SpecialTokens::new(&job::run(Vocabulary::new(&data)).unwrap(), &[(3, rules)]).unwrap();
        let mut shown = String::new();
        let mut show = |stretch: Stretch<'_>| {
            shown += &match stretch {
                Stretch::Text { text, first } => format!("{}({text})", if first { "^" } else { "" }),
                Stretch::Token(token) => token.to_string(),
            };
            Ok(())
        };
        special.split(&Classes::new().unwrap(), text, parse_special, &mut show).unwrap();
        shown
    }

    #[test]
    fn control_tokens_are_found_only_when_asked_for() {
        let rules = MatchRules::default();
        assert_eq!(split(rules, false, "a<s>b<unk>"), "^(a<s>b<unk>)");
        assert_eq!(split(rules, true, "a<s>b<unk>"), "^(a)0(b)2");
        assert_eq!(split(rules, true, "<s><s><s>x"), "10(x)");
        assert_eq!(split(rules, true, ""), "");
    }

    #[test]
    fn user_defined_tokens_are_always_found_leftmost_longest() {
        for parse_special in [false, true] {
            assert_eq!(split(MatchRules::default(), parse_special, "xabcdefabc"), "^(x)3(def)3");
        }
    }

    #[test]
    fn rules_take_white_space_and_keep_off_words() {
        let strip = MatchRules { lstrip: true, rstrip: true, single_word: false };
        assert_eq!(split(strip, false, "a  abc \n abc b"), "^(a)33(b)");
        let word = MatchRules { single_word: true, ..MatchRules::default() };
        assert_eq!(split(word, false, "éabc abc_ (abc)"), "^(éabc abc_ ()3())");
    }

    #[test]
    fn rules_for_no_token_are_refused() {
        let data =
            VocabularyData { tokens: vec![Cow::Borrowed(b"a")], types: vec![TokenType::Normal], ..VocabularyData::empty(Alphabet::Bytes) };
        let vocabulary = job::run(Vocabulary::new(&data)).unwrap();
        assert!(SpecialTokens::new(&vocabulary, &[(u32::MAX, MatchRules::default())]).is_err());
    }
}
