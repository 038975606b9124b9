//! How config.json says that positions rotate: `rope_parameters`, or `rope_theta` and `rope_scaling` of older files.

use super::config::HfConfig;
use crate::error::Result;
use crate::fail;
use crate::formats::config_json::Object;
use crate::model::config::{Config, Key, bounds, in_bounds};
use crate::model::family::LocalRope;
use crate::model::names::{Part, Role};
use crate::model::rope::{RopeScaling, Yarn};
use crate::model::spec::ModelSpec;
use std::f64::consts::PI;
use std::ops::RangeInclusive;

/// What the kinds of stretching have in common: a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Linear,
    /// Factors of frequencies that follow from their wave lengths.
    Llama3,
    Yarn,
    /// Two lists of factors of frequencies.
    Long,
}

/// Factors and divisors of rotations.
const FACTOR: RangeInclusive<f64> = 1e-3..=1e6;

/// Bases of frequencies.
const THETA: RangeInclusive<f64> = 1.0..=1e12;

/// A number of `object`, if there is one, within `bounds`.
fn within(object: Option<Object<'_>>, key: &str, bounds: &RangeInclusive<f64>) -> Result<Option<f64>> {
    let Some(object) = object else { return Ok(None) };
    match object.number(key)? {
        Some(value) if !bounds.contains(&value) => Err(object.wrong(key, &format!("{} to {}", bounds.start(), bounds.end()))),
        value => Ok(value),
    }
}

impl<'a> HfConfig<'a> {
    /// The object that stretching is described in: `rope_scaling` where it is, else `rope_parameters`, of a model with two ropes those of the layers
    /// without a window.
    fn rope(&self) -> Result<Option<Object<'a>>> {
        if let Some(scaling) = self.text.object("rope_scaling", "rope_scaling.")? {
            return Ok(Some(scaling));
        }
        match self.text.object("rope_parameters", "rope_parameters.")? {
            Some(both) if both.has("full_attention") || matches!(self.family.local_rope, LocalRope::Own(_)) => {
                both.object("full_attention", "rope_parameters.full_attention.")
            }
            one => Ok(one),
        }
    }

    /// The rope of the layers with a window, where it is another one.
    fn local_rope(&self) -> Result<Option<Object<'a>>> {
        let Some(both) = self.text.object("rope_parameters", "rope_parameters.")? else { return Ok(None) };
        let Some(local) = both.object("sliding_attention", "rope_parameters.sliding_attention.")? else { return Ok(None) };
        match local.text("rope_type")? {
            None | Some("default") => Ok(Some(local)),
            Some(other) => Err(local.unsupported("rope_type", other, "\"default\"")),
        }
    }

    fn rope_kind(&self) -> Result<Kind> {
        let Some(rope) = self.rope()? else { return Ok(Kind::Plain) };
        let key = if rope.has("rope_type") { "rope_type" } else { "type" };
        match rope.text(key)?.unwrap_or("default") {
            "default" => Ok(Kind::Plain),
            "linear" => Ok(Kind::Linear),
            "llama3" => Ok(Kind::Llama3),
            // Phi-3's first files call it so.
            "yarn" | "su" if self.kind.model_type == "phi3" => Ok(Kind::Long),
            "yarn" => Ok(Kind::Yarn),
            "longrope" => Ok(Kind::Long),
            other => Err(rope.unsupported(key, other, "\"default\", \"linear\", \"llama3\", \"yarn\" or \"longrope\"")),
        }
    }

    /// True if there are two lists of factors.
    pub(super) fn has_long_factors(&self) -> Result<bool> {
        Ok(self.rope_kind()? == Kind::Long)
    }

    /// A number of the rope, within `bounds`.
    fn rope_number(&self, key: &str, bounds: &RangeInclusive<f64>) -> Result<Option<f64>> {
        within(self.rope()?, key, bounds)
    }

    /// A number of the rope that 0 switches off.
    fn scale_number(&self, key: &str) -> Result<Option<f64>> {
        Ok(within(self.rope()?, key, &(0.0..=*FACTOR.end()))?.filter(|&scale| scale > 0.0))
    }

    fn required(&self, key: &str) -> Result<f64> {
        match (self.rope_number(key, &FACTOR)?, self.rope()?) {
            (Some(value), _) => Ok(value),
            (None, Some(rope)) => fail!(Format, "{} is missing", rope.path(key)),
            (None, None) => fail!(Format, "{key} is missing"),
        }
    }

    /// The base of the frequencies.
    pub(super) fn theta(&self) -> Result<Option<f64>> {
        let theta = within(self.rope()?, "rope_theta", &THETA)?;
        Ok(theta.or(within(Some(self.text), "rope_theta", &THETA)?).or(self.kind.default(Key::RopeTheta)))
    }

    /// That of the layers with a window.
    pub(super) fn local_theta(&self) -> Result<Option<f64>> {
        let theta = within(self.local_rope()?, "rope_theta", &THETA)?;
        Ok(theta.or(within(Some(self.text), "rope_local_base_freq", &THETA)?).or(self.kind.default(Key::LocalTheta)))
    }

    /// The share of a head that rotates.
    pub(super) fn rotated_share(&self) -> Result<Option<f64>> {
        let Some(default) = self.kind.partial_rotation else { return Ok(None) };
        let key = "partial_rotary_factor";
        let in_rope = self.rope_number(key, &(0.0..=1.0))?;
        let share = match in_rope {
            None => self.text.number(key)?.unwrap_or(default),
            Some(share) => share,
        };
        if !(0.0..=1.0).contains(&share) { Err(self.text.wrong(key, "0 to 1")) } else { Ok(Some(share)) }
    }

    /// The context before it was stretched: beside the rope (Phi-3), or in it, else the whole one.
    pub(super) fn original_context(&self) -> Result<Option<u64>> {
        let key = "original_max_position_embeddings";
        if let Some(n) = self.text.integer(key)? {
            return Ok(Some(n));
        }
        match self.rope()?.map(|rope| rope.integer(key)).transpose()?.flatten() {
            None => self.text.integer("max_position_embeddings"),
            n => Ok(n),
        }
    }

    fn n_ctx_original(&self) -> Result<usize> {
        let config: &dyn Config = self;
        config.size(Key::OriginalContext, bounds::CONTEXT)
    }

    /// How many times longer the context has become.
    fn stretch(&self) -> Result<f64> {
        match self.rope_number("factor", &FACTOR)? {
            Some(factor) => Ok(factor),
            None => {
                let config: &dyn Config = self;
                Ok(config.size(Key::Context, bounds::CONTEXT)? as f64 / self.n_ctx_original()? as f64)
            }
        }
    }

    /// What multiplies cosine and sine, beside what YaRN says itself.
    pub(super) fn magnitude(&self) -> Result<Option<f64>> {
        let own = |config: &Self| match config.both_magnitudes()? {
            None => config.rope_number("attention_factor", &FACTOR),
            both => Ok(both),
        };
        match self.rope_kind()? {
            Kind::Plain | Kind::Linear | Kind::Llama3 => Ok(None),
            Kind::Long => {
                let (stretch, n_ctx) = (self.stretch()?, self.n_ctx_original()? as f64);
                let default = if stretch <= 1.0 || n_ctx <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / n_ctx.ln()).sqrt() };
                Ok(Some(own(self)?.unwrap_or(default)))
            }
            Kind::Yarn => {
                let stretch = self.stretch()?;
                let magnitude = |m: f64| if stretch <= 1.0 { 1.0 } else { 0.1 * m * stretch.ln() + 1.0 };
                // What a model of latents has without a key: in llama.cpp, the key would change its scores, too.
                let both = self.scale_number("mscale")?.zip(self.scale_number("mscale_all_dim")?);
                if self.family.has_latents && both.is_some_and(|(some, all)| some == all) {
                    return Ok(None);
                }
                let own = own(self)?.or(both.map(|(some, all)| magnitude(some) / magnitude(all)));
                Ok(own.map(|own| own / magnitude(1.0)))
            }
        }
    }

    /// What Phi-3.5-MoE has for its two lists of factors.
    fn both_magnitudes(&self) -> Result<Option<f64>> {
        let (short, long) = (self.rope_number("short_mscale", &FACTOR)?, self.rope_number("long_mscale", &FACTOR)?);
        match (self.rope()?, short.zip(long)) {
            (Some(rope), Some((short, long))) if short != long => {
                Err(rope.unsupported("short_mscale", &short.to_string(), &format!("long_mscale, {long}")))
            }
            (_, both) => Ok(both.map(|(_, long)| long)),
        }
    }

    /// What DeepSeek's models multiply the logarithm of the stretching by for all of a head, as GGUF has it.
    pub(super) fn stretched_heads(&self) -> Result<Option<f64>> {
        if !self.family.has_latents || self.rope_kind()? != Kind::Yarn {
            return Ok(None);
        }
        let all = within(self.rope()?, "mscale_all_dim", &(0.0..=1e6))?;
        Ok(all.filter(|&all| all > 0.0).map(|all| 0.1 * all))
    }

    /// As [`Config::rope_scaling`].
    pub(super) fn scaling(&self) -> Result<RopeScaling> {
        Ok(match self.rope_kind()? {
            Kind::Plain | Kind::Llama3 | Kind::Long => RopeScaling::None,
            Kind::Linear => RopeScaling::Linear(self.required("factor")? as f32),
            Kind::Yarn => {
                let rounds = self.rope()?.map(|rope| rope.flag("truncate")).transpose()?.flatten();
                RopeScaling::Yarn(Yarn {
                    factor: self.stretch()? as f32,
                    n_ctx_original: self.n_ctx_original()?,
                    beta_fast: self.rope_number("beta_fast", &FACTOR)?.unwrap_or(32.0) as f32,
                    beta_slow: self.rope_number("beta_slow", &FACTOR)?.unwrap_or(1.0) as f32,
                    rounds: rounds.unwrap_or(true),
                })
            }
        })
    }

    /// The factors of frequencies that a GGUF file would have as tensors, by their names there.
    pub(super) fn rope_factors(&self, spec: &ModelSpec) -> Result<Vec<(String, Vec<f32>)>> {
        let Some(rope) = spec.ropes.first() else { return Ok(Vec::new()) };
        let name = |role: Role| role.gguf_name(0, Part::Weight);
        Ok(match self.rope_kind()? {
            Kind::Llama3 => vec![(name(Role::RopeFactors), self.llama3_factors(rope.theta, rope.n_rot)?)],
            Kind::Long => vec![
                (name(Role::RopeFactorsLong), self.listed_factors("long_factor", rope.n_rot)?),
                (name(Role::RopeFactorsShort), self.listed_factors("short_factor", rope.n_rot)?),
            ],
            Kind::Plain | Kind::Linear | Kind::Yarn => Vec::new(),
        })
    }

    fn listed_factors(&self, key: &str, n_rot: usize) -> Result<Vec<f32>> {
        let Some(rope) = self.rope()? else { fail!(Format, "{key} is missing") };
        match rope.numbers(key)? {
            Some(factors) if factors.len() == n_rot / 2 && factors.iter().all(|f| FACTOR.contains(f)) => {
                Ok(factors.into_iter().map(|f| f as f32).collect())
            }
            Some(_) => Err(rope.wrong(key, &format!("{} numbers from {} to {}", n_rot / 2, FACTOR.start(), FACTOR.end()))),
            None => fail!(Format, "{} is missing", rope.path(key)),
        }
    }

    /// What Llama 3.1 divides each frequency by: nothing for waves that are short against the original context, `factor` for long ones, a blend
    /// between. The formula is that of Meta's reference code.
    fn llama3_factors(&self, theta: f32, n_rot: usize) -> Result<Vec<f32>> {
        let factor = self.required("factor")?;
        let (low, high) = (self.required("low_freq_factor")?, self.required("high_freq_factor")?);
        if low >= high {
            fail!(Format, "rope_parameters.low_freq_factor: {low}, expected less than high_freq_factor, {high}");
        }
        let n_ctx = self.n_ctx_original()? as f64;
        let divisor = |i: usize| {
            let wave = 2.0 * PI * f64::from(theta).powf(2.0 * i as f64 / n_rot as f64);
            let kept = ((n_ctx / wave - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - kept) / factor + kept)) as f32
        };
        Ok((0..n_rot / 2).map(divisor).collect())
    }

    /// [`Key::RopeDims`]: the elements of a head that rotate.
    pub(super) fn rotated_dims(&self) -> Result<Option<u64>> {
        let Some(share) = self.rotated_share()? else { return Ok(None) };
        let config: &dyn Config = self;
        let heads = config.size(Key::Heads, bounds::HEADS)?;
        let width = config.size(Key::Width, bounds::WIDTH)?;
        let head_dim = config.integer(Key::HeadDim)?.unwrap_or((width / heads) as u64);
        let head_dim = in_bounds(&config.name(Key::HeadDim), head_dim, &bounds::HEAD_DIM)?;
        Ok(Some((head_dim as f64 * share) as u64))
    }
}
