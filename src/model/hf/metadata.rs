//! The numbers of a config.json as the metadata that a GGUF file of the model would have: what hosts ask for by key, and what is saved.

use super::config::HfConfig;
use crate::backend::FeedForwardFn;
use crate::error::Result;
use crate::formats::gguf::Value;
use crate::model::config::{Config, Key};
use crate::model::rope::RopeScaling;
use crate::model::spec::ModelSpec;

/// The numbers that are whole.
const INTEGERS: [Key; 27] = [
    Key::Layers,
    Key::Width,
    Key::FeedForward,
    Key::Heads,
    Key::KvHeads,
    Key::HeadDim,
    Key::Context,
    Key::RopeDims,
    Key::Window,
    Key::Experts,
    Key::ExpertsUsed,
    Key::ExpertsEvery,
    Key::ExpertFeedForward,
    Key::ExpertScores,
    Key::ExpertGroups,
    Key::ExpertGroupsUsed,
    Key::SharedExperts,
    Key::SharedFeedForward,
    Key::LeadingDense,
    Key::TemperatureLength,
    Key::LatentRank,
    Key::QueryRank,
    Key::LatentKeyDim,
    Key::LatentValueDim,
    Key::SharedKvLayers,
    Key::Streams,
    Key::PerLayerWidth,
];

/// Those that are not.
const FLOATS: [Key; 14] = [
    Key::RmsEps,
    Key::LayerEps,
    Key::RopeTheta,
    Key::LocalTheta,
    Key::RopeMagnitude,
    Key::AttentionSoftcap,
    Key::LogitSoftcap,
    Key::AttentionScale,
    Key::EmbeddingScale,
    Key::ResidualScale,
    Key::LogitDivisor,
    Key::ExpertScale,
    Key::TemperatureScale,
    Key::YarnLogMultiplier,
];

impl HfConfig<'_> {
    /// Keys and values of a GGUF file, architecture first.
    pub(super) fn metadata(&self, spec: &ModelSpec) -> Result<Vec<(String, Value)>> {
        let key = |key: &str| format!("{}.{key}", self.family.name);
        let mut entries = vec![("general.architecture".to_owned(), Value::from(self.family.name))];
        for integer in INTEGERS {
            if let Some(values) = self.numbers(integer)? {
                entries.push((key(integer.gguf()), values.into_iter().map(|n| n as u32).collect::<Vec<_>>().into()));
                continue;
            }
            // The blueprint has been checked: what does not fit is a window that is none.
            if let Some(value) = self.integer(integer)?.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0) {
                entries.push((key(integer.gguf()), value.into()));
            }
        }
        for float in FLOATS {
            if let Some(value) = self.float(float)? {
                entries.push((key(float.gguf()), value.into()));
            }
        }
        if let Some(normalises) = self.flag(Key::ExpertsNormalised)? {
            entries.push((key(Key::ExpertsNormalised.gguf()), normalises.into()));
        }
        let value_dim = spec.shape.latent.map_or(spec.shape.head_dim, |latent| latent.rank);
        if spec.shape.latent.is_some() {
            entries.push((key(Key::KvHeads.gguf()), (spec.shape.n_kv_heads as u32).into()));
            entries.push((key(Key::HeadDim.gguf()), (spec.shape.head_dim as u32).into()));
        }
        entries.push((key(Key::ValueDim.gguf()), (value_dim as u32).into()));
        entries.push((key("vocab_size"), (spec.n_vocab as u32).into()));
        self.add_streams(spec, &mut entries)?;
        if let Some(windows) = self.windows(spec.layers.len())? {
            entries.push((key("attention.sliding_window_pattern"), windows.into()));
        }
        self.add_scaling(&mut entries)?;
        Ok(entries)
    }

    /// What a model with several residual streams says beside its sizes.
    fn add_streams(&self, spec: &ModelSpec, entries: &mut Vec<(String, Value)>) -> Result<()> {
        let Some(altup) = spec.altup else { return Ok(()) };
        let mut set = |key: Key, value: Value| entries.push((format!("{}.{}", self.family.name, key.gguf()), value));
        // A missing key would not mean none here.
        if self.integer(Key::SharedKvLayers)? == Some(0) {
            set(Key::SharedKvLayers, 0_u32.into());
        }
        set(Key::ActiveStream, (altup.shape.active as u32).into());
        set(Key::ScalesOutput, altup.scales_output.into());
        let cut = |f| if let FeedForwardFn::Sparse(_, deviations) = f { deviations } else { f32::NEG_INFINITY };
        set(Key::Sparsity, spec.layers.iter().map(|layer| cut(layer.feed_forward)).collect::<Vec<f32>>().into());
        Ok(())
    }

    fn add_scaling(&self, entries: &mut Vec<(String, Value)>) -> Result<()> {
        let mut set = |key: &str, value: Value| entries.push((format!("{}.{key}", self.family.name), value));
        match self.rope_scaling()? {
            RopeScaling::None if self.has_long_factors()? => set("rope.scaling.type", "longrope".into()),
            RopeScaling::None => return Ok(()),
            RopeScaling::Linear(factor) => {
                set("rope.scaling.type", "linear".into());
                set("rope.scaling.factor", factor.into());
                return Ok(());
            }
            RopeScaling::Yarn(yarn) => {
                set("rope.scaling.type", "yarn".into());
                set("rope.scaling.factor", yarn.factor.into());
                set("rope.scaling.yarn_beta_fast", yarn.beta_fast.into());
                set("rope.scaling.yarn_beta_slow", yarn.beta_slow.into());
            }
        }
        if let Some(n) = self.integer(Key::OriginalContext)?.and_then(|n| u32::try_from(n).ok()) {
            set(Key::OriginalContext.gguf(), n.into());
        }
        Ok(())
    }
}
