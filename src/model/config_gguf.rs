//! The numbers of a GGUF file. Used by `spec`.

use super::config::{Config, Key, bounds};
use super::rope::{RopeScaling, Yarn};
use crate::error::Result;
use crate::fail;
use crate::formats::gguf::{Array, Metadata, Value};
use crate::formats::names::Quoted;

/// The metadata keys of one architecture.
pub(super) struct GgufConfig<'a> {
    pub(super) metadata: &'a Metadata,
    /// The prefix of the keys.
    pub(super) architecture: &'a str,
    /// What no key says, but a tensor's shape does.
    pub(super) laurel_rank: Option<u64>,
}

impl Config for GgufConfig<'_> {
    fn name(&self, key: Key) -> String {
        self.key(key.gguf())
    }

    fn integer(&self, key: Key) -> Result<Option<u64>> {
        match (key, self.metadata.get(&self.name(key))) {
            (Key::LaurelRank, _) => Ok(self.laurel_rank),
            // The first files have it as a float.
            (Key::SharedKvLayers, Some(Value::F32(n))) if n.fract() == 0.0 && *n >= 0.0 => Ok(Some(*n as u64)),
            _ => Ok(self.metadata.u32_opt(&self.name(key))?.map(u64::from)),
        }
    }

    fn float(&self, key: Key) -> Result<Option<f32>> {
        self.metadata.f32_opt(&self.name(key))
    }

    fn flag(&self, key: Key) -> Result<Option<bool>> {
        self.metadata.bool_opt(&self.name(key))
    }

    fn numbers(&self, key: Key) -> Result<Option<Vec<f64>>> {
        let name = self.name(key);
        Ok(Some(match self.metadata.get(&name) {
            Some(Value::Array(Array::F32(values))) => values.iter().map(|&x| x.into()).collect(),
            Some(Value::Array(Array::U32(values))) => values.iter().map(|&x| x.into()).collect(),
            Some(Value::Array(Array::I32(values))) => values.iter().map(|&x| x.into()).collect(),
            Some(Value::Array(_)) => fail!(Format, "{name}: expected an array of f32, u32 or i32"),
            _ => return Ok(None),
        }))
    }

    fn rope_scaling(&self) -> Result<RopeScaling> {
        let name = self.key("rope.scaling.type");
        // As llama.cpp reads files: no type means linear, no factor means 1, and 0 means 1, too.
        let kind = self.metadata.str_opt(&name)?.unwrap_or("linear");
        let factor = match kind {
            // Its factors are tensors.
            "none" | "longrope" => 1.0,
            "linear" | "yarn" => self.scaling_factor()?,
            other => fail!(
                Unsupported,
                "{name}: {} is not in this build, expected \"none\", \"linear\", \"yarn\" or \"longrope\"",
                Quoted(other)
            ),
        };
        Ok(match kind {
            _ if factor == 1.0 => RopeScaling::None,
            "yarn" => RopeScaling::Yarn(self.yarn(factor)?),
            _ => RopeScaling::Linear(factor),
        })
    }

    fn windows(&self, n_layers: usize) -> Result<Option<Vec<bool>>> {
        let name = self.key("attention.sliding_window_pattern");
        match self.metadata.get(&name) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(layers))) if layers.len() >= n_layers => Ok(Some(layers[..n_layers].to_vec())),
            Some(Value::U32(every @ 1..)) => Ok(Some((1..=n_layers).map(|i| !i.is_multiple_of(*every as usize)).collect())),
            Some(_) => fail!(Format, "{name}: expected {n_layers} booleans, or a number of layers from 1"),
        }
    }
}

impl GgufConfig<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn in_range(&self, key: &str, default: f32, range: std::ops::RangeInclusive<f32>) -> Result<f32> {
        let name = self.key(key);
        let value = self.metadata.f32_or(&name, default)?;
        if !range.contains(&value) {
            fail!(Format, "{name}: expected {} to {}, got {value}", range.start(), range.end());
        }
        Ok(value)
    }

    fn scaling_factor(&self) -> Result<f32> {
        let newer = self.metadata.get(&self.key("rope.scaling.factor")).is_some();
        let factor = self.in_range(if newer { "rope.scaling.factor" } else { "rope.scale_linear" }, 1.0, 0.0..=1e6)?;
        Ok(if factor == 0.0 { 1.0 } else { factor })
    }

    fn yarn(&self, factor: f32) -> Result<Yarn> {
        let config: &dyn Config = self;
        Ok(Yarn {
            factor,
            n_ctx_original: config.size(Key::OriginalContext, bounds::CONTEXT)?,
            beta_fast: self.in_range("rope.scaling.yarn_beta_fast", 32.0, 1e-3..=1e6)?,
            beta_slow: self.in_range("rope.scaling.yarn_beta_slow", 1.0, 1e-3..=1e6)?,
            rounds: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::formats::gguf::{Gguf, GgufWriter};
    use crate::sys::file::MemorySource;
    use std::sync::Arc;

    /// The scaling of a llama file with these keys.
    fn scaling(kind: Option<&str>, factors: &[(&str, f32)]) -> Result<RopeScaling> {
        let mut file = GgufWriter::new();
        file.set("general.architecture", "llama").unwrap();
        kind.iter().for_each(|kind| file.set("llama.rope.scaling.type", *kind).unwrap());
        factors.iter().for_each(|(key, factor)| file.set(&format!("llama.rope.{key}"), *factor).unwrap());
        let gguf = Gguf::from_source(Arc::new(MemorySource::new(file.to_bytes().unwrap())))?;
        GgufConfig { metadata: gguf.metadata(), architecture: "llama", laurel_rank: None }.rope_scaling()
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
        assert_eq!(scaling(Some("ntk"), &[]).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(scaling(None, &[("scaling.factor", -1.0)]).unwrap_err().kind(), ErrorKind::Format);
        assert_eq!(scaling(Some("yarn"), &[("scaling.factor", 4.0)]).unwrap_err().kind(), ErrorKind::Format);
    }
}
