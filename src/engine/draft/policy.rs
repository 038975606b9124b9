//! How many tokens to guess: as many as pay, by how often guesses were right and by what longer passes take; none for a while where they were all wrong.

/// Longest silence, in steps, after guesses that were all wrong.
const LONGEST_SILENCE: u32 = 64;

/// What a result counts for in the estimate of how often a token is right: a few guesses say whether a text repeats itself.
const RATE: f64 = 0.2;

/// The least that is hoped for after a silence: a guess of one or two tokens, which tells.
const LEAST_HOPE: f64 = 0.5;

/// A repetition of so many tokens is hardly ever chance: it goes on, probably for as long again.
const SURE_MATCH: usize = 8;

/// What is hoped for then.
const SURE_HOPE: f64 = 0.8;

/// Speed that a guess must promise, in multiples of that without: below it, what is not counted eats the gain.
const LEAST_GAIN: f64 = 1.05;

/// What a pass with so many guessed tokens takes, in multiples of one without.
pub(super) type Cost<'a> = &'a dyn Fn(usize) -> f64;

/// The length of guesses.
pub(super) struct Policy {
    /// Most tokens of a guess; 0 = never guesses.
    most: usize,
    /// How often a token was right lately, where those before it were: from 0 to 1.
    right: f64,
    /// Steps without a guess that are left.
    silence: u32,
    /// Steps of the next silence.
    next_silence: u32,
}

impl Policy {
    pub(super) fn new(most: usize) -> Self {
        Self { most, right: LEAST_HOPE, silence: 0, next_silence: 1 }
    }

    /// False if it never guesses.
    pub(super) fn guesses(&self) -> bool {
        self.most > 0
    }

    /// Tokens to guess in this step, where the text repeats its last `matched` tokens; 0 in a silence.
    pub(super) fn len_after(&mut self, matched: usize, cost: Cost<'_>) -> usize {
        if matched < SURE_MATCH { self.next_len(cost) } else { self.best_len(self.right.max(SURE_HOPE), cost) }
    }

    /// Tokens to guess in this step; 0 in a silence.
    pub(super) fn next_len(&mut self, cost: Cost<'_>) -> usize {
        if self.silence > 0 {
            self.silence -= 1;
            return 0;
        }
        self.best_len(self.right.max(LEAST_HOPE), cost)
    }

    /// The length with the most tokens per time, if each token is right with this probability; 0 if none is worth it.
    fn best_len(&self, right: f64, cost: Cost<'_>) -> usize {
        let (mut best, mut len_of_best) = (LEAST_GAIN, 0);
        // The token that the pass gives in any case, and then each guess with those before it.
        let (mut expected, mut all_right) = (1.0, 1.0);
        for len in 1..=self.most {
            all_right *= right;
            expected += all_right;
            let gain = expected / cost(len);
            if gain > best {
                (best, len_of_best) = (gain, len);
            }
        }
        len_of_best
    }

    /// Learns that the first `n_right` of `n_guessed` tokens were right.
    pub(super) fn learn(&mut self, n_guessed: usize, n_right: usize) {
        if n_guessed == 0 {
            return;
        }
        (0..n_right).for_each(|_| self.right += (1.0 - self.right) * RATE);
        if n_right < n_guessed {
            self.right -= self.right * RATE;
        }
        if n_right == 0 {
            self.silence = self.next_silence;
            self.next_silence = (self.next_silence * 2).min(LONGEST_SILENCE);
        } else {
            self.next_silence = (self.next_silence / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(len: usize) -> f64 {
        1.0 + 0.05 * len as f64
    }

    #[test]
    fn right_guesses_grow_and_wrong_ones_keep_still_longer_and_longer() {
        let mut policy = Policy::new(16);
        let first = policy.next_len(&cheap);
        policy.learn(4, 4);
        policy.learn(8, 8);
        assert!(first > 0 && policy.next_len(&cheap) > 2 * first, "from {first}");
        for silence in [1, 2, 4] {
            (0..20).for_each(|_| policy.right *= 0.8);
            policy.learn(8, 0);
            for _ in 0..silence {
                assert_eq!(policy.next_len(&cheap), 0);
            }
            assert_eq!(policy.next_len(&cheap), first, "a new trial");
        }
        policy.learn(2, 0);
        assert_eq!(policy.len_after(7, &cheap), 0);
        assert!(policy.len_after(8, &cheap) > first, "what is sure breaks the silence");
        assert!(!Policy::new(0).guesses() && Policy::new(0).next_len(&cheap) == 0);
    }

    #[test]
    fn a_guess_that_costs_more_than_it_brings_is_left() {
        let mut policy = Policy::new(16);
        assert_eq!(policy.next_len(&|len| 1.0 + len as f64), 0);
        assert_eq!(policy.next_len(&|len| 1.2 + 0.6 * (len - 1) as f64), 1, "half of the first tokens are right");
        (0..6).for_each(|_| policy.learn(8, 8));
        assert_eq!(policy.next_len(&|len| if len < 8 { 1.0 + 0.3 * len as f64 } else { 30.0 }), 7);
    }
}
