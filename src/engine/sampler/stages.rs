//! What each stage of a chain does to the candidates, and which numbers it accepts.

use super::Stage;
use super::candidates::Candidates;
use super::random::SplitMix64;
use super::repetition;
use crate::error::Result;
use crate::fail;
use crate::text::Token;
use std::collections::VecDeque;

/// The largest window of a penalty: longer histories than any context this library runs.
const MAX_WINDOW: u32 = 1 << 20;

/// Below it, a difference of a thousandth between two logits is a factor of e^1000 between their tokens, and large logits overflow.
const COLDEST: f32 = 1e-6;

impl Stage {
    /// Refuses numbers that have no meaning.
    pub(super) fn check(&self) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x >= 0.0;
        match self {
            Self::Temperature(t) if !positive(*t) => fail!(InvalidArgument, "temperature {t}: expected a number >= 0"),
            Self::DynamicTemperature { min, max, exponent } if !(positive(*min) && positive(*max) && min <= max && positive(*exponent)) => {
                fail!(
                    InvalidArgument,
                    "dynamic temperature from {min} to {max}, exponent {exponent}: expected 0 <= min <= max, exponent >= 0"
                );
            }
            Self::TopP(p) if !(*p > 0.0 && *p <= 1.0) => fail!(InvalidArgument, "top_p {p}: expected a number in (0, 1]"),
            Self::TypicalP(p) if !(*p > 0.0 && *p <= 1.0) => fail!(InvalidArgument, "typical_p {p}: expected a number in (0, 1]"),
            Self::MinP(p) if !(0.0..=1.0).contains(p) => fail!(InvalidArgument, "min_p {p}: expected a number in [0, 1]"),
            Self::TopNSigma(n) if !positive(*n) => fail!(InvalidArgument, "top_n_sigma {n}: expected a number >= 0 (0 = off)"),
            Self::Xtc { probability, threshold } if !((0.0..=1.0).contains(probability) && (0.0..=1.0).contains(threshold)) => {
                fail!(InvalidArgument, "xtc probability {probability}, threshold {threshold}: expected numbers in [0, 1]");
            }
            Self::Penalties { repeat, frequency, presence, .. } => check_penalties(*repeat, *frequency, *presence),
            Self::Dry { multiplier, base, .. } if !(positive(*multiplier) && base.is_finite() && *base >= 1.0) => {
                fail!(InvalidArgument, "dry multiplier {multiplier}, base {base}: expected a multiplier >= 0 (0 = off) and a base >= 1");
            }
            Self::Mirostat { tau, eta } if !(tau.is_finite() && *tau > 0.0 && positive(*eta) && *eta <= 1.0) => {
                fail!(InvalidArgument, "mirostat tau {tau}, eta {eta}: expected tau > 0 and eta in [0, 1]");
            }
            Self::LogitBias(bias) => match bias.iter().find(|(_, bias)| bias.is_nan() || **bias == f32::INFINITY) {
                Some((token, bias)) => fail!(InvalidArgument, "bias {bias} of token {token}: expected a number, or -inf to forbid it"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// True if a chain with this stage draws at random.
    pub(super) fn draws(&self) -> bool {
        !matches!(self, Self::Penalties { .. } | Self::Dry { .. } | Self::LogitBias(_))
    }

    /// True if it leaves the most likely token only.
    pub(super) fn is_cold(&self) -> bool {
        match self {
            Self::Temperature(t) => *t < COLDEST,
            Self::DynamicTemperature { max, .. } => *max < COLDEST,
            _ => false,
        }
    }

    /// True if no logit, however large, lets it choose `token`.
    pub(super) fn forbids(&self, token: Token) -> bool {
        matches!(self, Self::LogitBias(bias) if bias.get(&token) == Some(&f32::NEG_INFINITY))
    }

    /// How many accepted tokens it needs to remember.
    pub(super) fn window(&self) -> usize {
        match self {
            Self::Penalties { last_n, .. } | Self::Dry { last_n, .. } => (*last_n).min(MAX_WINDOW) as usize,
            _ => 0,
        }
    }

    /// Applies the stage. `mu` is mirostat's state.
    pub(super) fn apply(&self, candidates: &mut Candidates, recent: &VecDeque<Token>, random: &mut SplitMix64, mu: &mut Option<f64>) {
        match *self {
            // Greedy is decided at the end of the chain: no scaling could express it.
            Self::Temperature(t) if t >= COLDEST => candidates.scale(1.0 / t),
            Self::DynamicTemperature { min, max, exponent } if max >= COLDEST => {
                // Zhu et al. (EDT, 2024) in the form of llama.cpp: the less certain the model, the warmer.
                let certainty = candidates.relative_entropy().powf(f64::from(exponent));
                candidates.scale(1.0 / (f64::from(min) + f64::from(max - min) * certainty).max(f64::from(COLDEST)) as f32);
            }
            Self::TopK(k) if k > 0 => candidates.keep_most_likely(k as usize),
            Self::TopP(p) if p < 1.0 => candidates.keep_nucleus(f64::from(p)),
            Self::TypicalP(p) if p < 1.0 => candidates.keep_typical(f64::from(p)),
            Self::MinP(p) if p > 0.0 => candidates.keep_relative(p),
            Self::TopNSigma(n) if n > 0.0 => candidates.keep_within_deviations(f64::from(n)),
            // Above one half no two tokens can be that likely. The draw is made either way, so that the sequence of draws has one length.
            Self::Xtc { probability, threshold } => {
                if random.next_unit() < f64::from(probability) && threshold <= 0.5 {
                    candidates.exclude_top(f64::from(threshold));
                }
            }
            Self::Mirostat { tau, .. } => candidates.keep_unsurprising(*mu.get_or_insert(2.0 * f64::from(tau))),
            _ => self.discourage(candidates, recent),
        }
    }

    /// The stages that change the logits of single tokens.
    fn discourage(&self, candidates: &mut Candidates, recent: &VecDeque<Token>) {
        match self {
            Self::Penalties { repeat, frequency, presence, .. } => {
                let counts = repetition::counts(recent.iter().rev().take(self.window()));
                candidates.adjust(&counts, |logit, count| repetition::penalised(logit, *count, *repeat, *frequency, *presence));
            }
            Self::Dry { multiplier, base, allowed_len, breakers, .. } if *multiplier > 0.0 => {
                let allowed = *allowed_len as usize;
                let lengths = repetition::repetitions(recent, self.window(), allowed, breakers);
                let exponent = |length: usize| i32::try_from(length - allowed).unwrap_or(i32::MAX);
                candidates.adjust(&lengths, |logit, &length| logit - multiplier * base.powi(exponent(length)));
            }
            Self::LogitBias(bias) => candidates.adjust(bias, |logit, bias| logit + bias),
            _ => {}
        }
    }

    /// Lets mirostat v2 (Basu et al., 2021) learn from the token that was drawn.
    pub(super) fn learn(&self, candidates: &mut Candidates, token: Token, mu: &mut Option<f64>) {
        if let (Self::Mirostat { tau, eta }, Some(mu)) = (self, mu) {
            let observed = -candidates.probability(token).max(f64::MIN_POSITIVE).log2();
            *mu -= f64::from(*eta) * (observed - f64::from(*tau));
        }
    }
}

fn check_penalties(repeat: f32, frequency: f32, presence: f32) -> Result<()> {
    if !(repeat.is_finite() && repeat > 0.0) {
        fail!(InvalidArgument, "repeat penalty {repeat}: expected a number > 0 (1 = off)");
    }
    if !(frequency.is_finite() && presence.is_finite()) {
        fail!(InvalidArgument, "frequency penalty {frequency}, presence penalty {presence}: expected finite numbers (0 = off)");
    }
    Ok(())
}
