//! Chooses a token from logits: a chain of stages, in the order in which they were added, then a draw.
//!
//! A chain of nothing but penalties and biases chooses the largest logit (greedy); a temperature or a truncation makes it draw,
//! and a temperature of 0 makes any chain greedy. Every decision is a function of the logits, the chain, the tokens accepted so
//! far and the seed: never of time, threads or other sessions.

mod candidates;
mod random;
mod stages;

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::text::Token;
use candidates::Candidates;
use random::SplitMix64;
use std::collections::VecDeque;

/// Stages a chain may hold: a bound for hosts that add in a loop by mistake.
const MAX_STAGES: usize = 64;

/// One step of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Divides logits; 0 (or less than a millionth) = always the most likely token.
    Temperature(f32),
    /// Keeps the `k` most likely tokens; 0 = all.
    TopK(u32),
    /// Keeps the smallest set of most likely tokens whose probabilities sum to at least `p`.
    TopP(f32),
    /// Keeps tokens at least `p` times as likely as the most likely one.
    MinP(f32),
    /// Makes tokens less likely that were among the last `last_n` (0 = off, `u32::MAX` = all): a logit is divided by `repeat` (multiplied if negative),
    /// and lowered by `frequency` per occurrence and by `presence` once.
    Penalties {
        /// How many of the latest tokens count.
        last_n: u32,
        /// 1 = off.
        repeat: f32,
        /// 0 = off.
        frequency: f32,
        /// 0 = off.
        presence: f32,
    },
}

/// A chain of stages with its random state and its memory of accepted tokens.
#[derive(Clone)]
pub struct Sampler {
    n_vocab: usize,
    stages: Vec<Stage>,
    seed: u64,
    random: SplitMix64,
    /// Accepted tokens, newest last; as many as the largest penalty window.
    recent: VecDeque<Token>,
    candidates: Candidates,
}

impl Sampler {
    /// An empty chain for logits of `n_vocab` tokens: greedy. Its seed is random until [`Self::set_seed`].
    pub fn new(n_vocab: usize) -> Self {
        let seed = random::entropy();
        Self {
            n_vocab,
            stages: Vec::new(),
            seed,
            random: SplitMix64::new(seed),
            recent: VecDeque::new(),
            candidates: Candidates::default(),
        }
    }

    /// The number of logits it chooses from.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Adds a stage at the end.
    ///
    /// # Errors
    /// `InvalidArgument` if a number is out of its range; the chain is unchanged.
    pub fn add(&mut self, stage: Stage) -> Result<()> {
        if self.stages.len() == MAX_STAGES {
            fail!(InvalidArgument, "a sampler chain holds at most {MAX_STAGES} stages");
        }
        stage.check()?;
        self.stages.push(stage);
        Ok(())
    }

    /// Restarts the random sequence from `seed`.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
        self.random = SplitMix64::new(seed);
    }

    /// Takes a seed of its own again, as a new chain has.
    pub(super) fn reseed(&mut self) {
        self.set_seed(random::entropy());
    }

    /// Forgets accepted tokens and restarts the random sequence; the chain stays.
    pub fn reset(&mut self) {
        self.recent.clear();
        self.random = SplitMix64::new(self.seed);
    }

    /// Chooses a token and accepts it. `logits` is `(n_vocab,)`; a NaN counts as `-inf`.
    ///
    /// # Errors
    /// `InvalidArgument` if the length is not the model's, or no logit is finite.
    pub fn pick(&mut self, logits: &[f32]) -> Result<Token> {
        if logits.len() != self.n_vocab {
            fail!(InvalidArgument, "logits: {} values expected (the model's vocabulary), got {}", self.n_vocab, logits.len());
        }
        let token = if self.is_plain_greedy() { candidates::argmax(logits) } else { self.draw(logits) };
        let token = token.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "logits: no finite value to choose from"))?;
        self.accept(token)?;
        Ok(token)
    }

    /// Notes a token that the host chose itself.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not in the vocabulary.
    pub fn accept(&mut self, token: Token) -> Result<()> {
        if token as usize >= self.n_vocab {
            fail!(InvalidArgument, "token {token}: expected 0..{}", self.n_vocab);
        }
        let window = self.stages.iter().map(Stage::window).max().unwrap_or(0);
        self.recent.push_back(token);
        while self.recent.len() > window {
            self.recent.pop_front();
        }
        Ok(())
    }

    fn is_plain_greedy(&self) -> bool {
        self.stages.is_empty()
    }

    fn draw(&mut self, logits: &[f32]) -> Option<Token> {
        self.candidates.fill(logits);
        if self.candidates.is_empty() {
            return None; // before a random number is used up: a failed pick changes nothing
        }
        for stage in &self.stages {
            stage.apply(&mut self.candidates, &self.recent);
        }
        let greedy = self.stages.iter().any(Stage::is_cold) || !self.stages.iter().any(Stage::draws);
        if greedy { self.candidates.most_likely() } else { self.candidates.draw(self.random.next_unit()) }
    }
}

#[cfg(test)]
mod tests;
