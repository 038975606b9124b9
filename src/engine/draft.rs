//! Guesses the next tokens from repetitions in a session's own text, to be verified in one pass. Used by generations.
//!
//! Prompt lookup (Saxena 2023): where the last tokens occurred before, what followed then may follow now. A guess costs rows of a pass, so
//! a drafter that guesses wrong keeps still for a while.

use crate::text::Token;

/// Tokens of the end that must have occurred before: longer ones are tried first, as they promise more.
const LONGEST_MATCH: usize = 4;
const SHORTEST_MATCH: usize = 2;

/// Tokens that are guessed when nothing is known about the guesses yet.
const FIRST_GUESS: usize = 4;

/// Longest silence, in steps, after guesses that were all wrong.
const LONGEST_SILENCE: u32 = 64;

/// Guesses for one generation.
pub(super) struct Drafter {
    /// Most tokens of a guess; 0 = never guesses.
    most: usize,
    /// Tokens of the next guess.
    len: usize,
    /// Steps without a guess that are left.
    silence: u32,
    /// Steps of the next silence.
    next_silence: u32,
}

impl Drafter {
    pub(super) fn new(most: usize) -> Self {
        Self { most, len: FIRST_GUESS.min(most), silence: 0, next_silence: 1 }
    }

    /// What may follow `tokens`, at most `room` tokens; often nothing.
    pub(super) fn guess<'t>(&mut self, tokens: &'t [Token], room: usize) -> &'t [Token] {
        if self.most == 0 || self.silence > 0 {
            self.silence = self.silence.saturating_sub(1);
            return &[];
        }
        let found = (SHORTEST_MATCH..=LONGEST_MATCH).rev().find_map(|n| latest(tokens, n));
        let following = found.map_or(&[][..], |at| &tokens[at..]);
        &following[..following.len().min(self.len).min(room)]
    }

    /// Learns that the first `n_right` of `n_guessed` tokens were right.
    pub(super) fn learn(&mut self, n_guessed: usize, n_right: usize) {
        if n_guessed == 0 {
            return;
        }
        if n_right == 0 {
            self.silence = self.next_silence;
            self.next_silence = (self.next_silence * 2).min(LONGEST_SILENCE);
        } else {
            self.next_silence = 1;
        }
        self.len = if n_right == n_guessed { self.len * 2 } else { n_right + 1 }.clamp(1, self.most.max(1));
    }
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
        let mut drafter = Drafter::new(8);
        assert_eq!(drafter.guess(&[1, 2, 3, 9, 9, 1, 2, 3, 7, 8, 1, 2, 3], 8), [7, 8, 1, 2]);
        assert_eq!(drafter.guess(&[5, 1, 2, 6, 0, 4, 1, 2, 7, 0, 5, 1, 2], 8), [6, 0, 4, 1], "three tokens beat two");
        assert_eq!(drafter.guess(&[1, 2, 3, 1, 2, 3], 2), [1, 2]);
        assert_eq!(drafter.guess(&[4, 4, 4, 4, 4], 8), [4], "a repetition that overlaps its end");
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3, 4]] {
            assert!(drafter.guess(none, 8).is_empty());
        }
        assert!(Drafter::new(0).guess(&[1, 2, 3, 1, 2, 3], 8).is_empty());
    }

    #[test]
    fn right_guesses_grow_and_wrong_ones_keep_still_longer_and_longer() {
        let text: Vec<Token> = (0..40).chain(0..4).collect();
        let mut drafter = Drafter::new(16);
        drafter.learn(4, 4);
        assert_eq!(drafter.guess(&text, 99).len(), 8);
        for silence in [1, 2, 4] {
            drafter.learn(8, 0);
            for _ in 0..silence {
                assert!(drafter.guess(&text, 99).is_empty());
            }
            assert_eq!(drafter.guess(&text, 99).len(), 1);
        }
        drafter.learn(1, 1);
        drafter.learn(2, 1);
        assert_eq!(drafter.guess(&text, 99).len(), 2);
    }
}
