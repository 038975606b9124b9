//! How a model rotates: from what its file says to frequencies. Built by `spec`, made into a [`Rope`] when the weights are read.

use crate::backend::Rope;
use crate::error::Result;
use crate::fail;
use crate::kernels::RopeStyle;
use std::f32::consts::PI;

/// How a model stretches its rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear(f32),
    /// Short waves as they are, long ones divided, those between blended (Peng et al. 2023, arXiv 2309.00071).
    Yarn(Yarn),
}

/// The numbers of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Long waves are divided by it.
    pub factor: f32,
    /// The context the model was trained for before it was stretched.
    pub n_ctx_original: usize,
    /// Waves with more turns in that context than this stay as they are.
    pub beta_fast: f32,
    /// Waves with fewer turns than this are divided.
    pub beta_slow: f32,
}

/// One rotary embedding of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f32,
    /// Elements of a head that rotate: even.
    pub n_rot: usize,
    /// How positions are stretched.
    pub scaling: RopeScaling,
    /// Multiplies cosine and sine, beside what YaRN says itself.
    pub magnitude: f32,
}

impl RopeSpec {
    /// The rotary embedding, with `factors` (`(n_rot / 2,)`, from a tensor called `name`) dividing the frequencies.
    ///
    /// # Errors
    /// `Format` if there are not `n_rot / 2` factors, or one is not positive.
    pub fn rope(&self, style: RopeStyle, factors: Option<(&str, &[f32])>) -> Result<Rope> {
        let n_pairs = self.n_rot / 2;
        if let Some((name, f)) = factors
            && (f.len() != n_pairs || f.iter().any(|f| !(f.is_finite() && *f > 0.0)))
        {
            fail!(Format, "{name}: {n_pairs} positive factors expected, got {} values", f.len());
        }
        let inv_freq = |i: usize| {
            let exponent = (2 * i) as f32 / self.n_rot as f32;
            let factor = factors.and_then(|(_, f)| f.get(i)).copied().unwrap_or(1.0);
            1.0 / self.theta.powf(exponent) / factor * self.scaling.share(i, self)
        };
        let magnitude = match self.scaling {
            RopeScaling::Yarn(yarn) => self.magnitude * yarn.magnitude(),
            _ => self.magnitude,
        };
        Ok(Rope { inv_freq: (0..n_pairs).map(inv_freq).collect(), style, magnitude })
    }
}

impl RopeScaling {
    /// What frequency `i` of `rope` is multiplied by.
    fn share(self, i: usize, rope: &RopeSpec) -> f32 {
        match self {
            Self::None => 1.0,
            Self::Linear(factor) => 1.0 / factor,
            Self::Yarn(yarn) => yarn.share(i, rope),
        }
    }
}

impl Yarn {
    /// As [`RopeScaling::share`]; sections 3.2 and A.2 of the paper, with the borders rounded outwards as transformers does.
    fn share(self, i: usize, rope: &RopeSpec) -> f32 {
        let n_rot = rope.n_rot as f32;
        // The pair (as a real number) whose wave turns so often in the original context.
        let pair = |turns: f32| n_rot * (self.n_ctx_original as f32 / (turns * 2.0 * PI)).ln() / (2.0 * rope.theta.ln());
        let low = pair(self.beta_fast).floor().max(0.0);
        let high = pair(self.beta_slow).ceil().min(n_rot - 1.0);
        let width = if high == low { 0.001 } else { high - low };
        let divided = ((i as f32 - low) / width).clamp(0.0, 1.0);
        divided / self.factor + (1.0 - divided)
    }

    /// The attention factor, equation 22 of the paper.
    fn magnitude(self) -> f32 {
        if self.factor > 1.0 { 0.1 * self.factor.ln() + 1.0 } else { 1.0 }
    }
}
