//! What each stage of a chain does to the candidates, and which numbers it accepts.

use super::Stage;
use super::candidates::Candidates;
use crate::error::Result;
use crate::fail;
use crate::text::Token;
use std::collections::{HashMap, VecDeque};

/// The largest penalty window: longer histories than any context this library runs.
const MAX_WINDOW: u32 = 1 << 20;

/// Below it, a difference of a thousandth between two logits is a factor of e^1000 between their tokens, and large logits overflow.
const COLDEST: f32 = 1e-6;

impl Stage {
    /// Refuses numbers that have no meaning.
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            Self::Temperature(t) if !(t.is_finite() && t >= 0.0) => fail!(InvalidArgument, "temperature {t}: expected a number >= 0"),
            Self::TopP(p) if !(p > 0.0 && p <= 1.0) => fail!(InvalidArgument, "top_p {p}: expected a number in (0, 1]"),
            Self::MinP(p) if !(0.0..=1.0).contains(&p) => fail!(InvalidArgument, "min_p {p}: expected a number in [0, 1]"),
            Self::Penalties { repeat, frequency, presence, .. } => {
                if !(repeat.is_finite() && repeat > 0.0) {
                    fail!(InvalidArgument, "repeat penalty {repeat}: expected a number > 0 (1 = off)");
                }
                if !(frequency.is_finite() && presence.is_finite()) {
                    fail!(InvalidArgument, "frequency penalty {frequency}, presence penalty {presence}: expected finite numbers (0 = off)");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// True if a chain with this stage draws at random.
    pub(super) fn draws(&self) -> bool {
        !matches!(self, Self::Penalties { .. })
    }

    /// True if it leaves the most likely token only.
    pub(super) fn is_cold(&self) -> bool {
        matches!(self, Self::Temperature(t) if *t < COLDEST)
    }

    /// How many accepted tokens it needs to remember.
    pub(super) fn window(&self) -> usize {
        match self {
            Self::Penalties { last_n, .. } => (*last_n).min(MAX_WINDOW) as usize,
            _ => 0,
        }
    }

    /// Applies the stage.
    pub(super) fn apply(&self, candidates: &mut Candidates, recent: &VecDeque<Token>) {
        match *self {
            // Greedy is decided at the end of the chain: no scaling could express it.
            Self::Temperature(t) if t >= COLDEST => candidates.scale(1.0 / t),
            Self::TopK(k) if k > 0 => candidates.keep_most_likely(k as usize),
            Self::TopP(p) if p < 1.0 => candidates.keep_nucleus(f64::from(p)),
            Self::MinP(p) if p > 0.0 => candidates.keep_relative(p),
            Self::Penalties { repeat, frequency, presence, .. } => {
                penalise(candidates, recent.iter().rev().take(self.window()), repeat, frequency, presence);
            }
            _ => {}
        }
    }
}

/// Keskar et al. (CTRL, 2019) for `repeat`; the OpenAI API's formula for `frequency` and `presence`.
fn penalise<'a>(candidates: &mut Candidates, recent: impl Iterator<Item = &'a Token>, repeat: f32, frequency: f32, presence: f32) {
    let mut counts: HashMap<Token, u32> = HashMap::new();
    recent.for_each(|token| *counts.entry(*token).or_default() += 1);
    if counts.is_empty() {
        return;
    }
    candidates.edit(|token, logit| {
        let Some(&count) = counts.get(&token) else { return };
        *logit = if *logit > 0.0 { *logit / repeat } else { *logit * repeat };
        *logit -= count as f32 * frequency + presence;
    });
}
