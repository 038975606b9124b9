//! The blueprint of a model: every number of it, checked, before a weight is read.

use super::family::Family;
use super::names::{Part, Role};
use crate::backend::{Attention, Rope, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::gguf::{Gguf, Metadata};
use crate::formats::names::Quoted;
use std::ops::RangeInclusive;

/// Bounds of what a file may claim. Far above every published model, and low enough that no product of two of them overflows or allocates absurdly.
mod bounds {
    use std::ops::RangeInclusive;

    pub const LAYERS: RangeInclusive<usize> = 1..=1024;
    pub const WIDTH: RangeInclusive<usize> = 1..=1 << 17;
    pub const FEED_FORWARD: RangeInclusive<usize> = 1..=1 << 20;
    pub const HEADS: RangeInclusive<usize> = 1..=1024;
    pub const HEAD_DIM: RangeInclusive<usize> = 2..=1024;
    pub const CONTEXT: RangeInclusive<usize> = 1..=1 << 24;
    pub const VOCABULARY: RangeInclusive<usize> = 1..=1 << 22;

    /// A feed-forward, or all heads together, may be this many times as wide as the residual stream: published models have 8 at most. Without
    /// it, a prompt's activations could be 100 times as large as the file.
    pub const RATIO: usize = 32;
    /// Up to this width the ratio does not matter: activations are a few MiB.
    pub const WIDTH_OF_ANY_RATIO: usize = 1 << 13;
    /// Keys of a token in all layers, in multiples of the residual stream's width: published models have 100 at most. Without it, the
    /// first KV blocks could be 100 times as large as the file.
    pub const KEYS_RATIO: usize = 1 << 10;
    /// Up to so many elements the keys' ratio does not matter: the first blocks are 16 MiB.
    pub const KEYS_OF_ANY_RATIO: usize = 1 << 15;
}

/// How a model stretches its rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by a factor.
    Linear(f32),
}

/// A validated blueprint. Holding one means: its sizes are consistent and bounded.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The architecture's traits.
    pub family: Family,
    /// Sizes.
    pub shape: Shape,
    /// Tokens in the vocabulary: rows of the embedding.
    pub n_vocab: usize,
    /// Longest context it was made for.
    pub n_ctx_max: usize,
    /// Added to the mean square of every norm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Elements of a head that rotate.
    pub n_rot: usize,
    /// How positions are stretched.
    pub rope_scaling: RopeScaling,
    /// The same in every layer.
    pub attention: Attention,
    /// True if the head is the embedding's matrix.
    pub tied: bool,
}

impl ModelSpec {
    /// Reads and checks the blueprint of a GGUF file.
    ///
    /// # Errors
    /// `Unsupported` for an architecture or feature this build does not have, `Format` for numbers that contradict each other or are out of bounds; both name the key.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let keys = Keys::new(gguf.metadata())?;
        keys.refuse_unsupported()?;
        let shape = keys.shape(n_vocab(gguf)?)?;
        let n_rot = keys.size_or("rope.dimension_count", shape.head_dim, 2..=shape.head_dim)?;
        if !n_rot.is_multiple_of(2) {
            fail!(Format, "{}: {n_rot} is odd, rotation needs pairs", keys.name("rope.dimension_count"));
        }
        Ok(Self {
            family: keys.family,
            shape,
            n_vocab: shape.n_vocab,
            n_ctx_max: keys.size("context_length", bounds::CONTEXT)?,
            norm_eps: keys.number("attention.layer_norm_rms_epsilon", None, 0.0..=1.0)?,
            rope_theta: keys.number("rope.freq_base", Some(10_000.0), 1.0..=1e12)?,
            n_rot,
            rope_scaling: keys.rope_scaling()?,
            attention: Attention { scale: 1.0 / (shape.head_dim as f32).sqrt(), softcap: None, window: None },
            tied: gguf.tensor(&Role::Output.gguf_name(0, Part::Weight)).is_none(),
        })
    }

    /// The rotary embedding, with `factors` (`(n_rot / 2,)`, from the file) dividing the frequencies.
    ///
    /// # Errors
    /// `Format` if there are not `n_rot / 2` factors, or one is not positive.
    pub fn rope(&self, factors: Option<&[f32]>) -> Result<Rope> {
        let n_pairs = self.n_rot / 2;
        if let Some(f) = factors
            && (f.len() != n_pairs || f.iter().any(|f| !(f.is_finite() && *f > 0.0)))
        {
            fail!(Format, "rope_freqs.weight: {n_pairs} positive factors expected, got {} values", f.len());
        }
        let stretch = match self.rope_scaling {
            RopeScaling::None => 1.0,
            RopeScaling::Linear(factor) => factor,
        };
        let inv_freq = |i: usize| {
            let exponent = (2 * i) as f32 / self.n_rot as f32;
            let factor = factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0);
            1.0 / self.rope_theta.powf(exponent) / factor / stretch
        };
        Ok(Rope { inv_freq: (0..n_pairs).map(inv_freq).collect(), style: self.family.rope_style, magnitude: 1.0 })
    }
}

fn n_vocab(gguf: &Gguf) -> Result<usize> {
    let name = Role::TokenEmbedding.gguf_name(0, Part::Weight);
    let Some(embedding) = gguf.tensor(&name) else { fail!(Format, "{name} is missing") };
    let n = embedding.shape().get(1).map_or(1, |&n| n as u64);
    in_bounds(&name, n, &bounds::VOCABULARY)
}

fn in_bounds(name: &str, value: u64, bounds: &RangeInclusive<usize>) -> Result<usize> {
    let size = usize::try_from(value).ok().filter(|v| bounds.contains(v));
    size.ok_or_else(|| Error::new(ErrorKind::Format, format!("{name}: expected {} to {}, got {value}", bounds.start(), bounds.end())))
}

/// The metadata keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    family: Family,
}

impl<'a> Keys<'a> {
    fn new(metadata: &'a Metadata) -> Result<Self> {
        let name = metadata.str("general.architecture")?;
        let Some(family) = Family::by_name(name) else {
            let known = Family::ALL.map(|f| f.name).join(", ");
            fail!(Unsupported, "general.architecture {}: this build runs {known}", Quoted(name));
        };
        Ok(Self { metadata, family })
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.family.name)
    }

    fn has(&self, key: &str) -> bool {
        self.metadata.get(&self.name(key)).is_some()
    }

    fn size(&self, key: &str, bounds: RangeInclusive<usize>) -> Result<usize> {
        let name = self.name(key);
        in_bounds(&name, u64::from(self.metadata.u32(&name)?), &bounds)
    }

    fn size_or(&self, key: &str, default: usize, bounds: RangeInclusive<usize>) -> Result<usize> {
        if self.has(key) { self.size(key, bounds) } else { in_bounds(&self.name(key), default as u64, &bounds) }
    }

    fn number(&self, key: &str, default: Option<f32>, bounds: RangeInclusive<f32>) -> Result<f32> {
        let name = self.name(key);
        let value = match default {
            Some(default) => self.metadata.f32_or(&name, default)?,
            None => self.metadata.f32(&name)?,
        };
        if !bounds.contains(&value) {
            fail!(Format, "{name}: expected {} to {}, got {value}", bounds.start(), bounds.end());
        }
        Ok(value)
    }

    /// Keys that change the arithmetic in ways this build does not compute: better refused than wrong.
    fn refuse_unsupported(&self) -> Result<()> {
        let experts = self.name("expert_count");
        if self.metadata.u32_or(&experts, 0)? != 0 {
            fail!(Unsupported, "{experts}: mixtures of experts are not in this build");
        }
        for key in ["attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "attention.scale", "logit_scale"] {
            if self.has(key) {
                fail!(Unsupported, "{}: not in this build for {}", self.name(key), self.family.name);
            }
        }
        Ok(())
    }

    fn shape(&self, n_vocab: usize) -> Result<Shape> {
        let n_embd = self.size("embedding_length", bounds::WIDTH)?;
        let n_heads = self.size("attention.head_count", bounds::HEADS)?;
        let n_kv_heads = self.size_or("attention.head_count_kv", n_heads, bounds::HEADS)?;
        if !n_heads.is_multiple_of(n_kv_heads) {
            fail!(Format, "{}: {n_heads} heads are no multiple of {n_kv_heads} KV heads", self.name("attention.head_count"));
        }
        let head_dim = self.size_or("attention.key_length", n_embd / n_heads, bounds::HEAD_DIM)?;
        let value_dim = self.size_or("attention.value_length", head_dim, bounds::HEAD_DIM)?;
        if value_dim != head_dim {
            fail!(Unsupported, "{}: {value_dim} differs from the keys' {head_dim}", self.name("attention.value_length"));
        }
        let n_layers = self.size("block_count", bounds::LAYERS)?;
        let n_ff = self.size("feed_forward_length", bounds::FEED_FORWARD)?;
        let shape = Shape { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab };
        self.check_proportions(&shape)?;
        Ok(shape)
    }

    /// What a model takes to run must be in proportion to its weights. Every size is bounded: no product overflows.
    fn check_proportions(&self, shape: &Shape) -> Result<()> {
        let Shape { n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, .. } = *shape;
        let widest = bounds::WIDTH_OF_ANY_RATIO.max(bounds::RATIO * n_embd);
        let keys = bounds::KEYS_OF_ANY_RATIO.max(bounds::KEYS_RATIO * n_embd);
        let sizes = [
            ("feed_forward_length", "its activations", n_ff, widest),
            ("attention.head_count", "all heads together", n_heads * head_dim, widest),
            ("attention.head_count_kv", "a token's keys in all layers", n_layers * n_kv_heads * head_dim, keys),
        ];
        for (key, what, size, most) in sizes {
            if size > most {
                let name = self.name(key);
                fail!(Unsupported, "{name}: {what} have {size} elements, expected {most} at most for an embedding_length of {n_embd}");
            }
        }
        Ok(())
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        let name = self.name("rope.scaling.type");
        // As llama.cpp reads files: no type means linear, no factor means 1, and 0 means 1, too.
        let kind = if self.has("rope.scaling.type") { self.metadata.str(&name)? } else { "linear" };
        match kind {
            "none" => Ok(RopeScaling::None),
            "linear" => {
                let key = if self.has("rope.scaling.factor") { "rope.scaling.factor" } else { "rope.scale_linear" };
                let factor = self.number(key, Some(1.0), 0.0..=1e6)?;
                Ok(if factor == 0.0 || factor == 1.0 { RopeScaling::None } else { RopeScaling::Linear(factor) })
            }
            other => fail!(Unsupported, "{name}: {} is not in this build, expected \"none\" or \"linear\"", Quoted(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::gguf::GgufWriter;
    use crate::sys::file::MemorySource;
    use std::sync::Arc;

    /// The scaling of a llama file with these keys.
    fn scaling(kind: Option<&str>, factors: &[(&str, f32)]) -> Result<RopeScaling> {
        let mut file = GgufWriter::new();
        file.set("general.architecture", "llama").unwrap();
        kind.iter().for_each(|kind| file.set("llama.rope.scaling.type", *kind).unwrap());
        factors.iter().for_each(|(key, factor)| file.set(&format!("llama.rope.{key}"), *factor).unwrap());
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(file.to_bytes().unwrap())))?;
        Keys::new(gguf.metadata())?.rope_scaling()
    }

    #[test]
    fn rope_scaling_is_read_as_llama_cpp_reads_it() {
        assert_eq!(scaling(None, &[]).unwrap(), RopeScaling::None);
        assert_eq!(scaling(None, &[("scaling.factor", 4.0)]).unwrap(), RopeScaling::Linear(4.0));
        assert_eq!(scaling(None, &[("scale_linear", 2.0)]).unwrap(), RopeScaling::Linear(2.0));
        assert_eq!(scaling(Some("linear"), &[("scaling.factor", 8.0), ("scale_linear", 2.0)]).unwrap(), RopeScaling::Linear(8.0));
        assert_eq!(scaling(Some("linear"), &[]).unwrap(), RopeScaling::None);
        assert_eq!(scaling(Some("linear"), &[("scaling.factor", 0.0)]).unwrap(), RopeScaling::None);
        assert_eq!(scaling(Some("none"), &[("scaling.factor", 4.0)]).unwrap(), RopeScaling::None);
        assert_eq!(scaling(Some("yarn"), &[]).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(scaling(None, &[("scaling.factor", -1.0)]).unwrap_err().kind(), ErrorKind::Format);
    }
}
