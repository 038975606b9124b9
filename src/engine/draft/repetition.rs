//! Guesses from repetitions in a session's own text. Prompt lookup (Saxena 2023): where the last tokens occurred before, what followed then may follow now.

use crate::text::Token;

/// Tokens of the end that must have occurred before.
const SHORTEST_MATCH: usize = 2;

/// Tokens that are compared at most: a longer match promises no more.
const LONGEST_MATCH: usize = 32;

/// Where the end of a text occurred before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// What followed begins here.
    at: usize,
    /// Tokens that are the same before it and at the end.
    pub(super) len: usize,
}

impl Match {
    /// The longest of `tokens`, of equal ones the latest.
    pub(super) fn of_end(tokens: &[Token]) -> Option<Self> {
        let n = tokens.len();
        let mut best: Option<Self> = None;
        for at in (SHORTEST_MATCH..n).rev() {
            let len = tokens[..at].iter().rev().zip(tokens.iter().rev()).take(LONGEST_MATCH).take_while(|(a, b)| a == b).count();
            if len >= SHORTEST_MATCH && best.is_none_or(|best| len > best.len) {
                best = Some(Self { at, len });
                if len == LONGEST_MATCH {
                    break;
                }
            }
        }
        best
    }

    /// What may follow `tokens`, `len` of them. Where the earlier occurrence reaches the end, the text is taken to go round in this circle.
    pub(super) fn continuation(self, tokens: &[Token], len: usize) -> Vec<Token> {
        tokens[self.at..].iter().copied().cycle().take(len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continuation(tokens: &[Token], len: usize) -> (usize, Vec<Token>) {
        Match::of_end(tokens).map_or((0, vec![]), |found| (found.len, found.continuation(tokens, len)))
    }

    #[test]
    fn the_longest_and_latest_repetition_is_continued() {
        assert_eq!(continuation(&[1, 2, 3, 9, 9, 1, 2, 3, 7, 8, 1, 2, 3], 4), (3, vec![7, 8, 1, 2]));
        assert_eq!(continuation(&[5, 1, 2, 6, 0, 4, 1, 2, 7, 0, 5, 1, 2], 4), (3, vec![6, 0, 4, 1]), "three tokens beat two");
        assert_eq!(continuation(&[1, 2, 3, 1, 2, 3], 8), (3, vec![1, 2, 3, 1, 2, 3, 1, 2]), "in circles");
        assert_eq!(continuation(&[4, 4, 4, 4, 4], 3), (4, vec![4, 4, 4]), "a repetition that overlaps its end");
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3, 4], &[7, 1, 7]] {
            assert_eq!(continuation(none, 8), (0, vec![]));
        }
    }
}
