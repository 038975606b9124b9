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
    /// True if the pairs with so many turns are rounded outwards.
    pub rounds: bool,
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
    /// As [`RopeScaling::share`]; sections 3.2 and A.2 of the paper, with the borders rounded outwards as transformers does, but for gpt-oss.
    fn share(self, i: usize, rope: &RopeSpec) -> f32 {
        let n_rot = rope.n_rot as f32;
        // The pair (as a real number) whose wave turns so often in the original context.
        let pair = |turns: f32| n_rot * (self.n_ctx_original as f32 / (turns * 2.0 * PI)).ln() / (2.0 * rope.theta.ln());
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = if self.rounds { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(n_rot - 1.0));
        let width = if high == low { 0.001 } else { high - low };
        let divided = ((i as f32 - low) / width).clamp(0.0, 1.0);
        divided / self.factor + (1.0 - divided)
    }

    /// The attention factor, equation 22 of the paper.
    pub(super) fn magnitude(self) -> f32 {
        if self.factor > 1.0 { 0.1 * self.factor.ln() + 1.0 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YARN: Yarn = Yarn { factor: 8.0, n_ctx_original: 64, beta_fast: 32.0, beta_slow: 1.0, rounds: true };

    fn frequencies(scaling: RopeScaling) -> Rope {
        let spec = RopeSpec { theta: 1000.0, n_rot: 16, scaling, magnitude: 1.0 };
        spec.rope(RopeStyle::Halves, None).unwrap()
    }

    #[test]
    fn yarn_keeps_short_waves_and_divides_long_ones() {
        let (plain, yarn) = (frequencies(RopeScaling::None), frequencies(RopeScaling::Yarn(YARN)));
        let share: Vec<f32> = plain.inv_freq.iter().zip(&yarn.inv_freq).map(|(plain, yarn)| yarn / plain).collect();
        assert_eq!(share[0], 1.0, "{share:?}");
        assert!(share.windows(2).all(|pair| pair[0] >= pair[1]), "{share:?}");
        assert!((share[7] - 0.125).abs() < 1e-6, "{share:?}");
        assert!((yarn.magnitude - (0.1 * 8.0_f32.ln() + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn linear_divides_all() {
        let (plain, linear) = (frequencies(RopeScaling::None), frequencies(RopeScaling::Linear(4.0)));
        assert!(plain.inv_freq.iter().zip(&linear.inv_freq).all(|(plain, linear)| plain / 4.0 == *linear));
    }

    #[test]
    fn factors_must_be_positive_and_fit() {
        let spec = RopeSpec { theta: 1e4, n_rot: 4, scaling: RopeScaling::None, magnitude: 1.0 };
        for factors in [&[1.0][..], &[1.0, 0.0], &[1.0, f32::NAN]] {
            let error = spec.rope(RopeStyle::Halves, Some(("rope_freqs.weight", factors))).unwrap_err();
            assert!(error.message().starts_with("rope_freqs.weight: 2 positive factors expected"), "{error}");
        }
        assert_eq!(spec.rope(RopeStyle::Halves, Some(("f", &[2.0, 4.0]))).unwrap().inv_freq[0], 0.5);
    }
}
