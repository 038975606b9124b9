//! The numbers of a model as its file has them: each has a [`Key`], every format its own names for the keys. `spec` reads a [`Config`].

use super::rope::RopeScaling;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use std::ops::RangeInclusive;

/// Bounds of what a file may claim. Far above every published model, and low enough that no product of two of them overflows or allocates absurdly.
pub(super) mod bounds {
    use std::ops::RangeInclusive;

    pub const LAYERS: RangeInclusive<usize> = 1..=1024;
    pub const WIDTH: RangeInclusive<usize> = 1..=1 << 17;
    pub const FEED_FORWARD: RangeInclusive<usize> = 1..=1 << 20;
    pub const HEADS: RangeInclusive<usize> = 1..=1024;
    pub const HEAD_DIM: RangeInclusive<usize> = 2..=1024;
    /// Elements of a latent: with those that rotate, of a key.
    pub const LATENT: usize = 1 << 13;
    /// Experts of a layer, or none.
    pub const EXPERTS: RangeInclusive<usize> = 0..=1 << 12;
    pub const CONTEXT: RangeInclusive<usize> = 1..=1 << 24;
    pub const VOCABULARY: RangeInclusive<usize> = 1..=1 << 22;
    /// Scales and soft caps: published ones lie between 0.01 and 100.
    pub const SCALE: RangeInclusive<f32> = 1e-6..=1e6;

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

/// A number of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Layers,
    Width,
    FeedForward,
    Heads,
    KvHeads,
    HeadDim,
    ValueDim,
    Context,
    OriginalContext,
    RmsEps,
    LayerEps,
    RopeTheta,
    LocalTheta,
    RopeDims,
    RopeMagnitude,
    Window,
    AttentionSoftcap,
    LogitSoftcap,
    AttentionScale,
    EmbeddingScale,
    ResidualScale,
    LogitDivisor,
    Experts,
    ExpertsUsed,
    ExpertsEvery,
    ExpertFeedForward,
    ExpertScores,
    ExpertsNormalised,
    ExpertScale,
    ExpertGroups,
    ExpertGroupsUsed,
    SharedExperts,
    SharedFeedForward,
    LeadingDense,
    TemperatureLength,
    TemperatureScale,
    SharedKvLayers,
    Streams,
    ActiveStream,
    ScalesOutput,
    PerLayerWidth,
    LaurelRank,
    Sparsity,
    LatentRank,
    QueryRank,
    LatentKeyDim,
    LatentValueDim,
    YarnLogMultiplier,
}

impl Key {
    /// The name in a GGUF file, behind the architecture's.
    pub(super) const fn gguf(self) -> &'static str {
        match self {
            Self::Layers => "block_count",
            Self::Width => "embedding_length",
            Self::FeedForward => "feed_forward_length",
            Self::Heads => "attention.head_count",
            Self::KvHeads => "attention.head_count_kv",
            Self::HeadDim => "attention.key_length",
            Self::ValueDim => "attention.value_length",
            Self::Context => "context_length",
            Self::OriginalContext => "rope.scaling.original_context_length",
            Self::RmsEps => "attention.layer_norm_rms_epsilon",
            Self::LayerEps => "attention.layer_norm_epsilon",
            Self::RopeTheta => "rope.freq_base",
            Self::LocalTheta => "rope.freq_base_swa",
            Self::RopeDims => "rope.dimension_count",
            Self::RopeMagnitude => "rope.scaling.attn_factor",
            Self::Window => "attention.sliding_window",
            Self::AttentionSoftcap => "attn_logit_softcapping",
            Self::LogitSoftcap => "final_logit_softcapping",
            Self::AttentionScale => "attention.scale",
            Self::EmbeddingScale => "embedding_scale",
            Self::ResidualScale => "residual_scale",
            Self::LogitDivisor => "logit_scale",
            Self::Experts => "expert_count",
            Self::ExpertsUsed => "expert_used_count",
            Self::ExpertsEvery => "interleave_moe_layer_step",
            Self::ExpertFeedForward => "expert_feed_forward_length",
            Self::ExpertScores => "expert_gating_func",
            Self::ExpertsNormalised => "expert_weights_norm",
            Self::ExpertScale => "expert_weights_scale",
            Self::ExpertGroups => "expert_group_count",
            Self::ExpertGroupsUsed => "expert_group_used_count",
            Self::SharedExperts => "expert_shared_count",
            Self::SharedFeedForward => "expert_shared_feed_forward_length",
            Self::TemperatureLength => "attention.temperature_length",
            Self::TemperatureScale => "attention.temperature_scale",
            Self::LatentRank => "attention.kv_lora_rank",
            Self::QueryRank => "attention.q_lora_rank",
            Self::LatentKeyDim => "attention.key_length_mla",
            Self::LatentValueDim => "attention.value_length_mla",
            Self::YarnLogMultiplier => "rope.scaling.yarn_log_multiplier",
            Self::LeadingDense => "leading_dense_block_count",
            Self::SharedKvLayers => "attention.shared_kv_layers",
            Self::Streams => "altup.num_inputs",
            Self::ActiveStream => "altup.active_idx",
            Self::ScalesOutput => "altup.correct_scale",
            Self::PerLayerWidth => "embedding_length_per_layer_input",
            Self::LaurelRank => "laurel.rank",
            Self::Sparsity => "activation_sparsity_scale",
        }
    }
}

/// Where the numbers of a model come from.
pub(super) trait Config {
    /// What the file calls `key`.
    fn name(&self, key: Key) -> String;

    /// The value of `key`; `None` if the file does not say.
    ///
    /// # Errors
    /// `Format` for another type, naming the key.
    fn integer(&self, key: Key) -> Result<Option<u64>>;

    /// As [`Self::integer`].
    ///
    /// # Errors
    /// As there.
    fn float(&self, key: Key) -> Result<Option<f32>>;

    /// As [`Self::integer`].
    ///
    /// # Errors
    /// As there.
    fn flag(&self, key: Key) -> Result<Option<bool>>;

    /// The values of `key`, one for each layer; `None` if the file does not say, or has one for all. Those of [`Key::Sparsity`] are standard deviations.
    ///
    /// # Errors
    /// As [`Self::integer`].
    fn numbers(&self, key: Key) -> Result<Option<Vec<f64>>>;

    /// How positions are stretched.
    ///
    /// # Errors
    /// `Format`, `Unsupported`, naming the key.
    fn rope_scaling(&self) -> Result<RopeScaling>;

    /// Which of `n_layers` layers see a window, if the file says.
    ///
    /// # Errors
    /// `Format`, naming the key.
    fn windows(&self, n_layers: usize) -> Result<Option<Vec<bool>>>;
}

/// `value` of `name`, which must be within `bounds`.
pub(super) fn in_bounds(name: &str, value: u64, bounds: &RangeInclusive<usize>) -> Result<usize> {
    let size = usize::try_from(value).ok().filter(|v| bounds.contains(v));
    size.ok_or_else(|| Error::new(ErrorKind::Format, format!("{name}: expected {} to {}, got {value}", bounds.start(), bounds.end())))
}

impl dyn Config + '_ {
    /// A size that the file must have.
    pub(super) fn size(&self, key: Key, bounds: RangeInclusive<usize>) -> Result<usize> {
        match self.integer(key)? {
            Some(value) => in_bounds(&self.name(key), value, &bounds),
            None => fail!(Format, "{} is missing", self.name(key)),
        }
    }

    /// A size, or `default`.
    pub(super) fn size_or(&self, key: Key, default: usize, bounds: RangeInclusive<usize>) -> Result<usize> {
        in_bounds(&self.name(key), self.integer(key)?.unwrap_or(default as u64), &bounds)
    }

    /// A number, if the file has it.
    pub(super) fn number(&self, key: Key, bounds: RangeInclusive<f32>) -> Result<Option<f32>> {
        let value = self.float(key)?;
        match value.filter(|value| !bounds.contains(value)) {
            Some(value) => fail!(Format, "{}: expected {} to {}, got {value}", self.name(key), bounds.start(), bounds.end()),
            None => Ok(value),
        }
    }
}
