//! How many tokens to guess: more where guesses were right, none for a while where they were all wrong.

/// Tokens that are guessed when nothing is known about the guesses yet.
const FIRST_GUESS: usize = 4;

/// Longest silence, in steps, after guesses that were all wrong.
const LONGEST_SILENCE: u32 = 64;

/// A repetition of so many tokens is hardly ever chance: it goes on, probably for as long again.
const SURE_MATCH: usize = 8;

/// The length of guesses. A guess costs rows of a pass.
pub(super) struct Policy {
    /// Most tokens of a guess; 0 = never guesses.
    most: usize,
    /// Tokens of the next guess.
    len: usize,
    /// Steps without a guess that are left.
    silence: u32,
    /// Steps of the next silence.
    next_silence: u32,
}

impl Policy {
    pub(super) fn new(most: usize) -> Self {
        Self { most, len: FIRST_GUESS.min(most), silence: 0, next_silence: 1 }
    }

    /// False if it never guesses.
    pub(super) fn guesses(&self) -> bool {
        self.most > 0
    }

    /// Tokens to guess in this step, where the text repeats its last `matched` tokens; 0 in a silence.
    pub(super) fn len_after(&mut self, matched: usize) -> usize {
        if matched < SURE_MATCH { self.next_len() } else { self.len.max(matched).min(self.most) }
    }

    /// Tokens to guess in this step; 0 in a silence.
    pub(super) fn next_len(&mut self) -> usize {
        if self.most == 0 || self.silence > 0 {
            self.silence = self.silence.saturating_sub(1);
            return 0;
        }
        self.len
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_guesses_grow_and_wrong_ones_keep_still_longer_and_longer() {
        let mut policy = Policy::new(16);
        policy.learn(4, 4);
        assert_eq!(policy.next_len(), 8);
        for silence in [1, 2, 4] {
            policy.learn(8, 0);
            for _ in 0..silence {
                assert_eq!(policy.next_len(), 0);
            }
            assert_eq!(policy.next_len(), 1);
        }
        policy.learn(1, 1);
        policy.learn(2, 1);
        assert_eq!(policy.next_len(), 2);
        assert_eq!(Policy::new(0).next_len(), 0);
        policy.learn(2, 0);
        assert_eq!((policy.len_after(7), policy.len_after(8), policy.len_after(32)), (0, 8, 16), "what is sure breaks the silence");
    }
}
