//! The tokens that a parser may take next, for large vocabularies: those that it takes as a whole are not walked through one by one.

use super::trie::{Builder, Trie};
use super::vocabulary::Vocabulary;
use crate::sys::job;
use crate::text::Token;
use llguidance::earley::{BiasComputer, ParserRecognizer};
use llguidance::toktrie::{SimpleVob, TokTrie};
use std::sync::Arc;

/// Texts that stand in a JSON string as they are, with so many characters at most: a parser inside of a string, or of any such text, takes all of one kind.
const TEXTS: [(&str, usize); 3] =
    [(r#"[^"\\\x00-\x1F\x7F]{1,10}"#, 10), (r#"[^"\\\x00-\x1F\x7F]{1,30}"#, 30), (r#"[^"\\\x00-\x1F\x7F]+"#, usize::MAX)];

/// Work to find out whether a parser takes a whole kind: more costs more than walking through its words.
const FUEL: u64 = 1000;

/// Tokens that are put into tries between two pauses: about a millisecond.
const TOKENS_PER_SLICE: usize = 8192;

/// The [`TEXTS`], as patterns that each parser must know.
pub(super) fn texts() -> Vec<String> {
    TEXTS.map(|(pattern, _)| pattern.to_owned()).to_vec()
}

/// Tokens that are looked at together.
struct Kind {
    tokens: SimpleVob,
    trie: Trie,
}

/// A vocabulary, each token in one kind.
pub(super) struct Masks {
    vocabulary: Arc<Vocabulary>,
    /// Of each of [`TEXTS`] what the one before has not, then the others.
    kinds: Vec<Kind>,
}

impl Masks {
    /// `order` are the tokens with a word, ordered by their words.
    pub(super) async fn build(vocabulary: Arc<Vocabulary>, words: &[Vec<u8>], order: &[Token]) -> Self {
        let mut kinds = Vec::new();
        kinds.resize_with(TEXTS.len() + 1, || (SimpleVob::alloc(words.len()), Builder::default()));
        for some in order.chunks(TOKENS_PER_SLICE) {
            for &token in some {
                let word = &words[token as usize];
                let (tokens, builder) = &mut kinds[kind_of(word)];
                tokens.allow_token(token);
                builder.push(word, token);
            }
            job::pause().await;
        }
        let kinds = kinds.into_iter().map(|(tokens, builder)| Kind { tokens, trie: builder.finish() }).collect();
        Self { vocabulary, kinds }
    }

    /// How many kinds the parser takes as they are, from the first one on.
    fn n_taken(&self, parser: &mut ParserRecognizer<'_>) -> usize {
        let state = parser.lexer_state();
        if !parser.lexer_mut().subsume_possible(state) {
            return 0;
        }
        let mut takes = |kind: usize| parser.lexer_mut().check_subsume(state, kind, FUEL, None).unwrap_or(false);
        (0..TEXTS.len()).rev().find(|&kind| takes(kind)).map_or(0, |kind| kind + 1)
    }
}

/// Which of the kinds `word` is of.
fn kind_of(word: &[u8]) -> usize {
    let is_plain = |c: char| !matches!(c, '"' | '\\' | '\0'..='\x1F' | '\x7F');
    let plain = std::str::from_utf8(word).ok().filter(|text| text.chars().all(is_plain));
    let n_chars = plain.map(|text| text.chars().count());
    n_chars.and_then(|n| TEXTS.iter().position(|(_, most)| n <= *most)).unwrap_or(TEXTS.len())
}

impl BiasComputer for Masks {
    fn compute_bias(&self, parser: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let mut allowed = self.trie().alloc_token_set();
        if !start.is_empty() {
            self.trie().add_bias(parser, &mut allowed, start);
            return allowed;
        }
        let n_taken = self.n_taken(parser);
        self.kinds[..n_taken].iter().for_each(|kind| allowed.or(&kind.tokens));
        self.kinds[n_taken..].iter().for_each(|kind| kind.trie.walk(parser, &mut allowed));
        allowed
    }

    fn trie(&self) -> &TokTrie {
        self.vocabulary.trie()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_of_the_first_kind_that_matches_them() {
        for text in [
            "a",
            " ",
            "two words",
            "äöü日本語🦀",
            "a\"b",
            "\\",
            "\n",
            "\u{7f}",
            "0123456789",
            "0123456789a",
            &"x".repeat(30),
            &"é".repeat(31),
            "\u{80}",
        ] {
            let matches = |pattern: &str| llguidance::derivre::Regex::new(pattern).unwrap().is_match(text);
            let expected = TEXTS.iter().position(|(pattern, _)| matches(pattern)).unwrap_or(TEXTS.len());
            assert_eq!(kind_of(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(kind_of(&[0xE6, 0x97]), TEXTS.len(), "a part of a character");
    }
}
