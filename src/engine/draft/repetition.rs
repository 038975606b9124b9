//! Guesses from repetitions in a session's own text. Prompt lookup (Saxena 2023): where the last tokens occurred before, what followed then may follow now.

use crate::text::Token;

/// Tokens of the end that must have occurred before: longer ones are tried first, as they promise more.
const LONGEST_MATCH: usize = 4;
const SHORTEST_MATCH: usize = 2;

/// What may follow `tokens`, `len` tokens or nothing. Where the earlier occurrence reaches the end, the text is taken to go round in this circle.
pub(super) fn continuation(tokens: &[Token], len: usize) -> Vec<Token> {
    let found = (SHORTEST_MATCH..=LONGEST_MATCH).rev().find_map(|n| latest(tokens, n));
    found.map_or_else(Vec::new, |at| tokens[at..].iter().copied().cycle().take(len).collect())
}

/// Where the last `n` of `tokens` were followed by something the last time before.
fn latest(tokens: &[Token], n: usize) -> Option<usize> {
    let (before, end) = tokens.split_at(tokens.len().checked_sub(n)?);
    let [.., _] = before else { return None };
    // All of `tokens` but its own end: an occurrence may overlap it.
    tokens[..tokens.len() - 1].windows(n).rposition(|window| window == end).map(|at| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_and_longest_repetition_is_continued() {
        assert_eq!(continuation(&[1, 2, 3, 9, 9, 1, 2, 3, 7, 8, 1, 2, 3], 4), [7, 8, 1, 2]);
        assert_eq!(continuation(&[5, 1, 2, 6, 0, 4, 1, 2, 7, 0, 5, 1, 2], 4), [6, 0, 4, 1], "three tokens beat two");
        assert_eq!(continuation(&[1, 2, 3, 1, 2, 3], 8), [1, 2, 3, 1, 2, 3, 1, 2], "in circles");
        assert_eq!(continuation(&[4, 4, 4, 4, 4], 3), [4, 4, 4], "a repetition that overlaps its end");
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3, 4]] {
            assert!(continuation(none, 8).is_empty());
        }
    }
}
