//! Chooses a token from logits: a chain of stages, in the order in which they were added, then a draw.
//!
//! A chain of nothing but penalties and biases chooses the largest logit (greedy); a temperature or a truncation makes it draw,
//! and a temperature of 0 makes any chain greedy. Every decision is a function of the logits, the chain, the tokens accepted so
//! far and the seed: never of time, threads or other sessions.

mod candidates;
mod json;
mod random;
mod repetition;
mod stages;

use crate::error::Result;
use crate::fail;
use crate::text::Token;
use crate::text::constraint::{Allowed, Constraint};
pub(super) use candidates::Candidates;
use random::SplitMix64;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

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
    /// Divides logits by a temperature between `min` and `max`: the nearer the distribution is to an even one, the higher.
    DynamicTemperature {
        /// Where the model is certain.
        min: f32,
        /// Where all tokens are as likely.
        max: f32,
        /// Of the relative entropy; 1 = proportional.
        exponent: f32,
    },
    /// Keeps the tokens whose surprise is nearest to the expected one, as few as have probability `p` together.
    TypicalP(f32),
    /// Keeps tokens whose logit is at most so many standard deviations below the largest; 0 = all.
    TopNSigma(f32),
    /// Sometimes drops all tokens at least as likely as `threshold` but the least likely of them.
    Xtc {
        /// How often.
        probability: f32,
        /// Above one half it never happens.
        threshold: f32,
    },
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
    /// Makes tokens less likely that would continue a repetition of `n >= allowed_len` tokens, by `multiplier * base^(n - allowed_len)`.
    Dry {
        /// 0 = off.
        multiplier: f32,
        /// 1 or more.
        base: f32,
        /// Repetitions so long are free.
        allowed_len: u32,
        /// How many of the latest tokens count.
        last_n: u32,
        /// A repetition does not reach across these.
        breakers: Arc<HashSet<Token>>,
    },
    /// Steers the surprise of what is drawn to `tau` bits (mirostat v2); the last stage of its chain.
    Mirostat {
        /// Bits.
        tau: f32,
        /// How fast it learns.
        eta: f32,
    },
    /// Adds to the logits of single tokens; `-inf` forbids one.
    LogitBias(Arc<HashMap<Token, f32>>),
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
    /// The surprise that mirostat allows now, in bits; `None` before the first draw.
    mu: Option<f64>,
    candidates: Candidates,
    /// What may be chosen at all; applied before every stage.
    constraint: Option<Box<Constraint>>,
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
            mu: None,
            candidates: Candidates::default(),
            constraint: None,
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
        if let Stage::LogitBias(bias) = &stage
            && let Some(token) = bias.keys().find(|token| **token as usize >= self.n_vocab)
        {
            fail!(InvalidArgument, "bias of token {token}: expected 0..{}", self.n_vocab);
        }
        self.stages.push(stage);
        self.heed_biases();
        Ok(())
    }

    /// Lets it choose only what `constraint` allows, from its beginning; `None` = everything. Wherever it stands in the chain, it comes first.
    pub fn set_constraint(&mut self, constraint: Option<Constraint>) {
        self.constraint = constraint.map(Box::new);
        self.heed_biases();
    }

    /// True if it has a constraint.
    pub fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// True if [`Self::prepare`] has something to compute.
    pub(super) fn is_unprepared(&self) -> bool {
        self.constraint.as_ref().is_some_and(|constraint| !constraint.is_ready())
    }

    /// Computes what the constraint allows next, so that the next choice does not have to.
    pub(super) fn prepare(&mut self) {
        if let Some(constraint) = &mut self.constraint {
            constraint.prepare();
        }
    }

    /// The only token that the constraint allows next, if there is just one: no logits are needed for it. It is not accepted yet.
    pub(super) fn next_forced(&self) -> Option<Token> {
        self.constraint.as_ref()?.next_forced()
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
        self.mu = None;
        self.random = SplitMix64::new(self.seed);
        if let Some(constraint) = &mut self.constraint {
            constraint.reset();
        }
        self.heed_biases();
    }

    /// A bias may forbid the token that the constraint forces next: then another one is looked for that says the same.
    fn heed_biases(&mut self) {
        if let Some(constraint) = &mut self.constraint
            && let Some(token) = constraint.next_forced()
            && self.stages.iter().any(|stage| stage.forbids(token))
        {
            constraint.allow_any_tokens();
        }
    }

    /// Chooses a token and accepts it. `logits` is `(n_vocab,)`; a NaN counts as `-inf`.
    ///
    /// # Errors
    /// `InvalidArgument` if the length is not the model's, or no logit is finite; `DeadEnd` if the constraint allows none that is finite, `Constraint` if it takes
    /// too much work.
    pub fn pick(&mut self, logits: &[f32]) -> Result<Token> {
        if logits.len() != self.n_vocab {
            fail!(InvalidArgument, "logits: {} values expected (the model's vocabulary), got {}", self.n_vocab, logits.len());
        }
        let mut constraint = self.constraint.take();
        if let Some(constraint) = &mut constraint
            && let Some(token) = constraint.next_forced()
            && !logits.get(token as usize).is_some_and(|logit| logit.is_finite())
        {
            constraint.allow_any_tokens(); // the host took that one out
        }
        let token = match constraint.as_mut().map(|constraint| constraint.allowed()).transpose() {
            Ok(None) if self.is_plain_greedy() => Ok(candidates::argmax(logits)),
            Ok(None) => Ok(self.draw(logits, None)),
            Ok(Some(Allowed::One(token))) => Ok(Some(token)),
            Ok(Some(Allowed::Bits(mask))) => Ok(self.draw(logits, Some(mask))),
            Err(e) => Err(e),
        };
        self.constraint = constraint;
        let token = match token? {
            Some(token) => token,
            None if self.is_constrained() => fail!(DeadEnd, "no token that the constraint allows has a finite logit"),
            None => fail!(InvalidArgument, "logits: no finite value to choose from"),
        };
        self.accept(token)?;
        Ok(token)
    }

    /// Notes a token that the host chose itself.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not in the vocabulary, or the constraint does not allow it; nothing has changed.
    pub fn accept(&mut self, token: Token) -> Result<()> {
        if token as usize >= self.n_vocab {
            fail!(InvalidArgument, "token {token}: expected 0..{}", self.n_vocab);
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
        }
        let window = self.stages.iter().map(Stage::window).max().unwrap_or(0);
        self.recent.push_back(token);
        while self.recent.len() > window {
            self.recent.pop_front();
        }
        self.heed_biases();
        Ok(())
    }

    fn is_plain_greedy(&self) -> bool {
        self.stages.is_empty()
    }

    fn draw(&mut self, logits: &[f32], mask: Option<&[u32]>) -> Option<Token> {
        self.candidates.fill(logits, mask);
        if self.candidates.is_empty() {
            return None; // before a random number is used up: a failed pick changes nothing
        }
        let random = self.random.clone();
        for stage in &self.stages {
            stage.apply(&mut self.candidates, &self.recent, &mut self.random, &mut self.mu);
        }
        let greedy = self.stages.iter().any(Stage::is_cold) || !self.stages.iter().any(Stage::draws);
        let token = if greedy { self.candidates.most_likely() } else { self.candidates.draw(self.random.next_unit()) };
        match token {
            Some(token) => self.stages.iter().for_each(|stage| stage.learn(&mut self.candidates, token, &mut self.mu)),
            None => self.random = random, // a failed pick changes nothing
        }
        token
    }
}

#[cfg(test)]
mod tests;
