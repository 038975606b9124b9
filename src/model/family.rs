//! What makes one architecture different from the next: data over the one decoder. `docs/adding-a-model.md` adds one, step by step.

use crate::backend::{FeedForwardFn, NormKind, Scores, Temperature};
use crate::kernels::{GateFn, RopeStyle};

/// Whether the files of a family have a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every file has it.
    Required,
    /// Used if it is there.
    Optional,
    /// No file has it; one that does is another architecture.
    Absent,
}

/// Where a layer has norms over the width of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlaces {
    /// Before attention and before the feed-forward.
    Before,
    /// There, and on what both give before it joins the residual: Gemma 2, GLM-4.
    Around,
    /// Only on what both give: OLMo 2.
    After,
    /// One, whose result both attention and feed-forward read; their outputs are added together: Phi-2.
    Shared,
}

/// The norms of queries and keys before they rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadNorms {
    /// None.
    None,
    /// Each head by itself: Qwen 3, Gemma 3.
    Each,
    /// Each head by itself; values, too, without weights: Gemma 3n.
    EachAndValues,
    /// Each head by itself, without weights, in layers that rotate: Llama 4.
    Unweighted,
    /// All heads of a token together: OLMo 2.
    Together,
}

/// Which layers see a window of positions, where a file names its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None: a file that names a window is another architecture.
    None,
    /// All.
    All,
    /// All but the last of each so many, unless the file says which.
    AllButEvery(usize),
    /// The same layers; what they see is their own chunk of positions, of this size where the file does not say: Llama 4.
    ChunksButEvery(usize, u32),
}

/// How layers with a window rotate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LocalRope {
    /// As the others.
    Same,
    /// As the others, but not stretched: OLMo 3.
    Unstretched,
    /// With a base of their own, this one where the file does not say: Gemma 3.
    Own(f32),
}

/// What is the same in all mixtures of experts of a family; the file says the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertTraits {
    /// What the router's logits mean.
    pub scores: Scores,
    /// True if the weights of the chosen experts are divided by their sum, where the file does not say.
    pub normalises: bool,
    /// True if an expert's input is multiplied by its weight, not its output.
    pub weighs_input: bool,
    /// Experts that every row takes, where the file does not say.
    pub n_shared: usize,
    /// True if the shared expert is weighed by a gate of its own.
    pub gates_shared: bool,
    /// Biases of the router and of the experts.
    pub bias: Presence,
}

/// The traits of an architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// `general.architecture`, and the prefix of its metadata keys.
    pub name: &'static str,
    /// How its GGUF files order the rotated halves of a head.
    pub rope_style: RopeStyle,
    /// Every n-th layer does not rotate.
    pub unrotated_every: Option<usize>,
    /// How layers with a window rotate.
    pub local_rope: LocalRope,
    /// True if YaRN's borders are rounded to whole pairs.
    pub rounds_yarn: bool,
    /// What all its norms over the residual stream compute.
    pub norm: NormKind,
    /// Where they are.
    pub norms: NormPlaces,
    /// Norms of queries and keys.
    pub head_norms: HeadNorms,
    /// Biases of the query, key and value projections.
    pub qkv_bias: Presence,
    /// Bias of the attention's output projection.
    pub output_bias: Presence,
    /// What happens between the projections of the feed-forward.
    pub feed_forward: FeedForwardFn,
    /// For architectures with layers that choose among experts; a file that names none has no such layer.
    pub experts: Option<ExpertTraits>,
    /// True if keys and values are made of latents: DeepSeek.
    pub has_latents: bool,
    /// True if a head's softmax has a sink: gpt-oss.
    pub has_sinks: bool,
    /// How queries grow in layers that do not rotate, where the file does not say.
    pub temperature: Option<Temperature>,
    /// Which layers see a window.
    pub windows: Windows,
    /// True if embeddings are multiplied by the square root of their width.
    pub scales_embedding: bool,
    /// True if its files have keys for the scales of embedding, residual, attention and logits: Granite.
    pub has_scales: bool,
    /// The caps of scores and logits where the file does not say: Gemma 2.
    pub softcaps: Option<(f32, f32)>,
    /// A model of so many layers scales its scores by `n_embd / n_heads` instead of the width of a head. No GGUF key says so; llama.cpp
    /// knows the 27B models by their layers, too.
    pub wide_queries_at: Option<usize>,
    /// What scores are multiplied by, where no file says: Gemma 3n.
    pub score_scale: Option<f32>,
    /// Layers, from the first, that have keys and values of their own where the file does not say; the others read theirs.
    pub own_kv_layers: Option<usize>,
    /// True if it has several residual streams, learned residuals and an embedding for each layer: Gemma 3n.
    pub has_streams: bool,
    /// In a model of more layers the first so many cut their gates at so many standard deviations, where the file does not say.
    pub sparsity: Option<(usize, f32)>,
}

/// The experts of Mixtral, whose files say that they are llamas.
const MIXTRAL: ExpertTraits = ExpertTraits {
    scores: Scores::Softmax,
    normalises: true,
    weighs_input: false,
    n_shared: 0,
    gates_shared: false,
    bias: Presence::Absent,
};

/// Llama 1 to 3.x, Mistral, Mixtral, TinyLlama, SmolLM2: converters permute query and key rows so that neighbours rotate.
const LLAMA: Family = Family {
    name: "llama",
    rope_style: RopeStyle::Interleaved,
    unrotated_every: None,
    local_rope: LocalRope::Same,
    rounds_yarn: true,
    norm: NormKind::Rms,
    norms: NormPlaces::Before,
    head_norms: HeadNorms::None,
    qkv_bias: Presence::Optional,
    output_bias: Presence::Optional,
    feed_forward: FeedForwardFn::Gated(GateFn::Silu),
    experts: Some(MIXTRAL),
    has_latents: false,
    has_sinks: false,
    temperature: None,
    windows: Windows::All,
    scales_embedding: false,
    has_scales: false,
    softcaps: None,
    wide_queries_at: None,
    score_scale: None,
    own_kv_layers: None,
    has_streams: false,
    sparsity: None,
};

/// Qwen 2 and 2.5.
const QWEN2: Family = Family {
    name: "qwen2",
    rope_style: RopeStyle::Halves,
    qkv_bias: Presence::Required,
    output_bias: Presence::Absent,
    experts: None,
    windows: Windows::None,
    ..LLAMA
};

/// Qwen 1.5 and 2 with experts.
const QWEN2MOE: Family =
    Family { name: "qwen2moe", experts: Some(ExpertTraits { normalises: false, gates_shared: true, ..MIXTRAL }), ..QWEN2 };

/// Qwen 3, dense.
const QWEN3: Family = Family { name: "qwen3", qkv_bias: Presence::Absent, head_norms: HeadNorms::Each, ..QWEN2 };

/// Qwen 3 with experts.
const QWEN3MOE: Family = Family { name: "qwen3moe", experts: Some(MIXTRAL), ..QWEN3 };

/// OLMoE.
const OLMOE: Family = Family {
    name: "olmoe",
    head_norms: HeadNorms::Together,
    qkv_bias: Presence::Absent,
    experts: Some(ExpertTraits { normalises: false, ..MIXTRAL }),
    ..QWEN2
};

/// Gemma 1. Converters have added the 1 of its norms to their weights.
const GEMMA: Family = Family {
    name: "gemma",
    qkv_bias: Presence::Absent,
    feed_forward: FeedForwardFn::Gated(GateFn::GeluTanh),
    scales_embedding: true,
    ..QWEN2
};

/// Gemma 2: windows in turn, soft caps, norms around.
const GEMMA2: Family = Family {
    name: "gemma2",
    norms: NormPlaces::Around,
    windows: Windows::AllButEvery(2),
    softcaps: Some((50.0, 30.0)),
    wide_queries_at: Some(46),
    ..GEMMA
};

/// Gemma 3, text.
const GEMMA3: Family = Family {
    name: "gemma3",
    head_norms: HeadNorms::Each,
    windows: Windows::AllButEvery(6),
    local_rope: LocalRope::Own(10_000.0),
    softcaps: None,
    wide_queries_at: Some(62),
    ..GEMMA2
};

/// Gemma 3n, text. Nineteen of twenty gates are cut in sparse layers: 1.6448536 is that quantile of the normal distribution.
const GEMMA3N: Family = Family {
    name: "gemma3n",
    head_norms: HeadNorms::EachAndValues,
    windows: Windows::AllButEvery(5),
    softcaps: Some((0.0, 30.0)),
    wide_queries_at: None,
    score_scale: Some(1.0),
    own_kv_layers: Some(20),
    has_streams: true,
    sparsity: Some((10, 1.644_853_6)),
    ..GEMMA3
};

/// Phi-3, 3.5 and 4: fused projections, long factors.
const PHI3: Family = Family { name: "phi3", qkv_bias: Presence::Absent, windows: Windows::All, ..QWEN2 };

/// Phi-3.5 with experts.
const PHIMOE: Family = Family {
    name: "phimoe",
    norm: NormKind::Layer,
    qkv_bias: Presence::Optional,
    output_bias: Presence::Optional,
    experts: Some(ExpertTraits { scores: Scores::SparseMixer, normalises: false, ..MIXTRAL }),
    ..PHI3
};

/// gpt-oss.
const GPT_OSS: Family = Family {
    name: "gpt-oss",
    output_bias: Presence::Required,
    feed_forward: FeedForwardFn::Clamped,
    experts: Some(ExpertTraits { scores: Scores::SoftmaxOfChosen, bias: Presence::Required, ..MIXTRAL }),
    has_sinks: true,
    windows: Windows::AllButEvery(2),
    rounds_yarn: false,
    ..QWEN2
};

/// SmolLM3: a llama with layers that do not rotate.
const SMOLLM3: Family = Family { name: "smollm3", unrotated_every: Some(4), experts: None, windows: Windows::None, ..LLAMA };

/// Llama 4, text.
const LLAMA4: Family = Family {
    name: "llama4",
    unrotated_every: Some(4),
    head_norms: HeadNorms::Unweighted,
    qkv_bias: Presence::Absent,
    output_bias: Presence::Absent,
    experts: Some(ExpertTraits { scores: Scores::Sigmoid, normalises: false, weighs_input: true, n_shared: 1, ..MIXTRAL }),
    temperature: Some(Temperature { length: 8192.0, scale: 0.1 }),
    windows: Windows::ChunksButEvery(4, 8192),
    ..LLAMA
};

/// OLMo 2, and OLMo 3, which has windows.
const OLMO2: Family = Family {
    name: "olmo2",
    norms: NormPlaces::After,
    head_norms: HeadNorms::Together,
    qkv_bias: Presence::Absent,
    windows: Windows::AllButEvery(4),
    local_rope: LocalRope::Unstretched,
    ..QWEN2
};

/// Granite 3.x: a llama with scales.
const GRANITE: Family = Family { name: "granite", has_scales: true, experts: None, windows: Windows::None, ..LLAMA };

/// Granite 3.x with experts.
const GRANITEMOE: Family =
    Family { name: "granitemoe", experts: Some(ExpertTraits { scores: Scores::SoftmaxOfChosen, ..MIXTRAL }), ..GRANITE };

/// StarCoder2.
const STARCODER2: Family = Family {
    name: "starcoder2",
    norm: NormKind::Layer,
    qkv_bias: Presence::Optional,
    output_bias: Presence::Optional,
    feed_forward: FeedForwardFn::Plain(GateFn::GeluTanh),
    windows: Windows::All,
    ..QWEN2
};

/// Phi-1.5 and 2.
const PHI2: Family = Family { name: "phi2", norms: NormPlaces::Shared, windows: Windows::None, ..STARCODER2 };

/// GLM-4: neighbours rotate, in half of a head.
const GLM4: Family = Family { name: "glm4", norms: NormPlaces::Around, experts: None, windows: Windows::None, ..LLAMA };

/// DeepSeek-V2, V2.5, V3, R1: latents; experts in groups; the rotating part of a head turns neighbours.
const DEEPSEEK2: Family = Family {
    name: "deepseek2",
    qkv_bias: Presence::Optional,
    experts: Some(ExpertTraits { normalises: false, ..MIXTRAL }),
    has_latents: true,
    windows: Windows::None,
    ..LLAMA
};

impl Family {
    /// Every architecture that this build runs.
    pub const ALL: [Self; 22] = [
        LLAMA, LLAMA4, QWEN2, QWEN2MOE, QWEN3, QWEN3MOE, OLMOE, GEMMA, GEMMA2, GEMMA3, GEMMA3N, PHI3, PHIMOE, GPT_OSS, SMOLLM3, OLMO2,
        GRANITE, GRANITEMOE, STARCODER2, PHI2, GLM4, DEEPSEEK2,
    ];

    /// The architecture called `name` in files.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name == name)
    }
}
