//! Unigram: the sequence of tokens that is likeliest as a whole (Kudo 2018), found by Viterbi's algorithm.
//!
//! For `encode`, by way of `model`. Its tokens are found by narrowing a sorted list, which needs four bytes per token.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::memory::try_with_capacity;
use crate::text::Token;
use crate::text::limits::MAX_SCORED_TOKEN_BYTES;
use crate::text::vocabulary::Vocabulary;

/// A character without a token costs so much more than the unlikeliest token: SentencePiece's `kUnkPenalty`.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The scores of a vocabulary.
pub(super) struct Unigram {
    /// The tokens that text can become, sorted by their pieces.
    sorted: Vec<Token>,
    /// (n_vocab)
    scores: Vec<f64>,
    unknown_score: f64,
}

/// The best way to reach a place in the text.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// Where its last token starts.
    start: u32,
    /// Its last token, `None` for a character that has no token.
    token: Option<Token>,
}

/// Not reached.
const NOWHERE: Best = Best { score: f64::NEG_INFINITY, start: 0, token: None };

/// Memory that is used again from word to word.
#[derive(Default)]
pub(super) struct UnigramScratch {
    /// Per byte of the word, and one more.
    best: Vec<Best>,
    /// The parts of the word: where each starts and ends, and its token.
    pub(super) parts: Vec<(u32, u32, Option<Token>)>,
}

impl Unigram {
    /// # Errors
    /// `Format` if a score is missing or no number, or a token is too long; `OutOfMemory`.
    pub(super) fn new(vocabulary: &Vocabulary, scores: &[f64]) -> Result<Self> {
        if scores.len() != vocabulary.len() {
            fail!(Format, "the vocabulary has {} tokens and {} scores", vocabulary.len(), scores.len());
        }
        let (mut sorted, mut least) = (try_with_capacity(vocabulary.len())?, 0.0f64);
        for ((token, kind), &score) in vocabulary.iter().zip(scores) {
            let piece = vocabulary.piece(token).unwrap_or_default();
            if !kind.is_text() || vocabulary.word(piece) != Some(token) {
                continue;
            }
            if !score.is_finite() {
                fail!(Format, "the score of token {token} is {score}, expected a number");
            }
            if piece.len() > MAX_SCORED_TOKEN_BYTES {
                fail!(Format, "token {token} has {} bytes, expected {MAX_SCORED_TOKEN_BYTES} at most", piece.len());
            }
            least = least.min(score);
            sorted.push(token);
        }
        sorted.sort_unstable_by_key(|&token| vocabulary.piece(token));
        let mut copy = try_with_capacity(scores.len())?;
        copy.extend_from_slice(scores);
        Ok(Self { sorted, scores: copy, unknown_score: least - UNKNOWN_PENALTY })
    }

    /// Fills `scratch.parts` with the parts of `word`, in order.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(super) fn split(&self, vocabulary: &Vocabulary, word: &str, scratch: &mut UnigramScratch) -> Result<()> {
        let UnigramScratch { best, parts } = scratch;
        best.clear();
        best.try_reserve(word.len() + 1).map_err(|_| out_of_memory())?;
        best.resize(word.len() + 1, NOWHERE);
        best[0].score = 0.0;
        for (start, c) in word.char_indices() {
            let (before, end) = (best[start].score, start + c.len_utf8());
            let mut has_character = false;
            // Offsets fit in 32 bits: MAX_TEXT_BYTES.
            let mut offer = |token, at: usize, score: f64| {
                if before + score > best[at].score {
                    best[at] = Best { score: before + score, start: start as u32, token };
                }
            };
            self.each_prefix(vocabulary, &word.as_bytes()[start..], |token, length| {
                has_character |= start + length == end;
                offer(Some(token), start + length, self.scores[token as usize]);
            });
            if !has_character {
                offer(None, end, self.unknown_score);
            }
        }
        walk_back(best, parts)
    }

    /// Calls `each` with the tokens that begin `text`, and their lengths; the shortest first.
    fn each_prefix(&self, vocabulary: &Vocabulary, text: &[u8], mut each: impl FnMut(Token, usize)) {
        let mut candidates = &self.sorted[..];
        for (at, &byte) in text.iter().enumerate() {
            // All candidates share the first `at` bytes; those that have no more come first.
            let next = |token: &Token| vocabulary.piece(*token).and_then(|piece| piece.get(at)).copied();
            let from = candidates.partition_point(|token| next(token) < Some(byte));
            candidates = &candidates[from..];
            candidates = &candidates[..candidates.partition_point(|token| next(token) == Some(byte))];
            let Some(&first) = candidates.first() else { return };
            if vocabulary.piece(first).is_some_and(|piece| piece.len() == at + 1) {
                each(first, at + 1);
            }
        }
    }
}

/// The parts of the best way to the end of `best`, in order.
fn walk_back(best: &[Best], parts: &mut Vec<(u32, u32, Option<Token>)>) -> Result<()> {
    parts.clear();
    let mut end = best.len() - 1;
    while let Some(&Best { start, token, .. }) = best.get(end).filter(|_| end > 0) {
        parts.try_reserve(1).map_err(|_| out_of_memory())?;
        parts.push((start, end as u32, token));
        end = start as usize;
    }
    parts.reverse();
    Ok(())
}

fn out_of_memory() -> Error {
    Error::new(ErrorKind::OutOfMemory, "cannot allocate the ways to cut a word into tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::job;
    use crate::text::{Alphabet, Model, TokenType, VocabularyData};
    use std::borrow::Cow;

    fn unigram(tokens: &[(&'static str, f64)]) -> Result<(Vocabulary, Unigram)> {
        let data = VocabularyData {
            tokens: tokens.iter().map(|(text, _)| Cow::Borrowed(text.as_bytes())).collect(),
            types: vec![TokenType::Normal; tokens.len()],
            model: Model::Likeliest(Vec::new()),
            ..VocabularyData::empty(Alphabet::Characters)
        };
        let vocabulary = job::run(Vocabulary::new(&data))?;
        let scores: Vec<f64> = tokens.iter().map(|&(_, score)| score).collect();
        let unigram = Unigram::new(&vocabulary, &scores)?;
        Ok((vocabulary, unigram))
    }

    fn split(tokens: &[(&'static str, f64)], word: &str) -> Vec<Option<Token>> {
        let ((vocabulary, unigram), mut scratch) = (unigram(tokens).unwrap(), UnigramScratch::default());
        unigram.split(&vocabulary, word, &mut scratch).unwrap();
        let ends: Vec<u32> = scratch.parts.iter().map(|part| part.1).collect();
        assert!(scratch.parts.iter().map(|part| part.0).eq([0].into_iter().chain(ends).take(scratch.parts.len())));
        scratch.parts.iter().map(|part| part.2).collect()
    }

    #[test]
    fn the_greatest_sum_wins_and_the_earlier_start_of_equals() {
        let tokens = [("a", -1.0), ("b", -1.0), ("ab", -1.5), ("bab", -2.0), ("ba", -1.5)];
        assert_eq!(split(&tokens, "ab"), [Some(2)]);
        assert_eq!(split(&tokens, "abab"), [Some(0), Some(3)]); // -3.0 as `ab ab`, whose last token starts later
        assert_eq!(split(&[("a", -1.0), ("aa", -2.0)], "aaa"), [Some(0), Some(1)]);
        assert_eq!(split(&tokens, ""), []);
    }

    #[test]
    fn what_has_no_token_is_unknown_by_character() {
        let tokens = [("a", -1.0), ("éa", -30.0), ("日", -2.0)];
        assert_eq!(split(&tokens, "a日本"), [Some(0), Some(2), None]);
        assert_eq!(split(&tokens, "éa"), [Some(1)]); // -30 beats -40 - 1
        assert_eq!(split(&tokens, "éé"), [None, None]);
    }

    #[test]
    fn broken_scores_are_refused() {
        let message = |tokens: &[(&'static str, f64)]| unigram(tokens).err().unwrap().message().to_owned();
        assert!(message(&[("a", f64::NAN)]).contains("token 0 is NaN"));
        assert!(message(&[("a", f64::NEG_INFINITY)]).contains("token 0 is -inf"));
        assert!(message(&[("x".repeat(257).leak(), 0.0)]).contains("257 bytes"));
    }
}
