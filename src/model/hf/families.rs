//! The architectures of `transformers` that this build runs: which [`Family`] each is, and how its config.json and tensors are written.
//!
//! Defaults are those of the configuration classes of `transformers`, for keys that a file leaves out.

use super::names::{GEMMA3N as STREAMED, LATENTS, LLAMA_4, Names, PHI, ROUTED, SANDWICHED, SPARSE, STARCODER, USUAL, WITH_TWO_MORE};
use crate::model::config::Key;
use crate::model::family::Family;

/// How an architecture is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct HfFamily {
    /// An entry of `architectures`.
    pub(super) class: &'static str,
    /// `model_type`
    pub(super) model_type: &'static str,
    /// [`Family::name`]
    pub(super) family: &'static str,
    /// What its tensors are called.
    pub(super) names: Names,
    /// Keys that this architecture has beside, or instead of, the usual ones. Of several for one number the first that a file has counts.
    pub(super) keys: &'static [(Key, &'static str)],
    /// What a missing key means; a key that is neither here nor in the file is an error, or has a default of its own.
    pub(super) defaults: &'static [(Key, f64)],
    /// Whether `sliding_window` is one.
    pub(super) window: Window,
    /// The key of its activation function.
    pub(super) activation: &'static str,
    /// What `partial_rotary_factor` is if it is missing; `None` where the key means nothing.
    pub(super) partial_rotation: Option<f64>,
    /// True if llama.cpp's converter makes neighbours of the halves that rotate.
    pub(super) neighbours: bool,
    /// True if 1 is added to the weights of its norms.
    pub(super) norms_add_one: bool,
    /// What `tie_word_embeddings` is if it is missing.
    pub(super) tied: bool,
    /// Keys that must be absent, null, false or empty: they change the arithmetic.
    pub(super) refused: &'static [&'static str],
    /// Keys that, where they are, must have this value.
    pub(super) fixed: &'static [(&'static str, Fixed)],
    /// True if files may hold layers behind the last one, which guess further tokens.
    pub(super) has_later_layers: bool,
}

/// A value that a key must have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fixed {
    Text(&'static str),
    Number(f64),
    True,
}

/// What the key `sliding_window` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// Nothing.
    Ignored,
    /// A window.
    Used,
    /// A window if `use_sliding_window` is set.
    IfAsked,
    /// Nothing; `attention_chunk_size` is the size of chunks.
    Chunks,
}

const LLAMA: HfFamily = HfFamily {
    class: "LlamaForCausalLM",
    model_type: "llama",
    family: "llama",
    names: USUAL,
    keys: &[],
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4)],
    window: Window::Ignored,
    activation: "hidden_act",
    partial_rotation: None,
    neighbours: true,
    norms_add_one: false,
    tied: false,
    refused: &[],
    fixed: &[],
    has_later_layers: false,
};

const MISTRAL: HfFamily = HfFamily {
    class: "MistralForCausalLM",
    model_type: "mistral",
    window: Window::Used,
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4), (Key::KvHeads, 8.0), (Key::Window, 4096.0)],
    ..LLAMA
};

const QWEN2: HfFamily = HfFamily {
    class: "Qwen2ForCausalLM",
    model_type: "qwen2",
    family: "qwen2",
    window: Window::IfAsked,
    neighbours: false,
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4), (Key::KvHeads, 32.0)],
    ..LLAMA
};

const QWEN3: HfFamily = HfFamily {
    class: "Qwen3ForCausalLM",
    model_type: "qwen3",
    family: "qwen3",
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4), (Key::KvHeads, 32.0), (Key::HeadDim, 128.0)],
    ..QWEN2
};

const GEMMA: HfFamily = HfFamily {
    class: "GemmaForCausalLM",
    model_type: "gemma",
    family: "gemma",
    window: Window::Ignored,
    neighbours: false,
    norms_add_one: true,
    tied: true,
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4), (Key::KvHeads, 16.0), (Key::HeadDim, 256.0)],
    refused: &["use_bidirectional_attention"],
    ..LLAMA
};

const SOFTCAPS: [(Key, &str); 3] = [
    (Key::AttentionScale, "query_pre_attn_scalar"),
    (Key::AttentionSoftcap, "attn_logit_softcapping"),
    (Key::LogitSoftcap, "final_logit_softcapping"),
];

const GEMMA2: HfFamily = HfFamily {
    class: "Gemma2ForCausalLM",
    model_type: "gemma2",
    family: "gemma2",
    names: SANDWICHED,
    keys: &SOFTCAPS,
    window: Window::Used,
    activation: "hidden_activation",
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e4),
        (Key::KvHeads, 4.0),
        (Key::HeadDim, 256.0),
        (Key::Window, 4096.0),
        (Key::AttentionScale, 256.0),
        (Key::AttentionSoftcap, 50.0),
        (Key::LogitSoftcap, 30.0),
    ],
    ..GEMMA
};

const GEMMA3: HfFamily = HfFamily {
    class: "Gemma3ForCausalLM",
    model_type: "gemma3_text",
    family: "gemma3",
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e6),
        (Key::LocalTheta, 1e4),
        (Key::KvHeads, 4.0),
        (Key::HeadDim, 256.0),
        (Key::Window, 4096.0),
        (Key::AttentionScale, 256.0),
    ],
    ..GEMMA2
};

const GEMMA3N: HfFamily = HfFamily {
    class: "Gemma3nForCausalLM",
    model_type: "gemma3n_text",
    family: "gemma3n",
    names: STREAMED,
    keys: &[
        (Key::LogitSoftcap, "final_logit_softcapping"),
        (Key::SharedKvLayers, "num_kv_shared_layers"),
        (Key::Streams, "altup_num_inputs"),
        (Key::ActiveStream, "altup_active_idx"),
        (Key::ScalesOutput, "altup_correct_scale"),
        (Key::PerLayerWidth, "hidden_size_per_layer_input"),
        (Key::LaurelRank, "laurel_rank"),
        (Key::Sparsity, "activation_sparsity_pattern"),
    ],
    norms_add_one: false,
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e6),
        (Key::LocalTheta, 1e4),
        (Key::KvHeads, 2.0),
        (Key::HeadDim, 256.0),
        (Key::Window, 512.0),
        (Key::LogitSoftcap, 30.0),
        (Key::SharedKvLayers, 15.0),
    ],
    refused: &["use_bidirectional_attention", "attention_bias"],
    ..GEMMA3
};

const PHI3: HfFamily = HfFamily {
    class: "Phi3ForCausalLM",
    model_type: "phi3",
    family: "phi3",
    window: Window::Used,
    partial_rotation: Some(1.0),
    neighbours: false,
    defaults: &[(Key::RmsEps, 1e-5), (Key::RopeTheta, 1e4)],
    ..LLAMA
};

const SMOLLM3: HfFamily = HfFamily {
    class: "SmolLM3ForCausalLM",
    model_type: "smollm3",
    family: "smollm3",
    window: Window::IfAsked,
    tied: true,
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 2e6), (Key::KvHeads, 4.0)],
    ..LLAMA
};

const OLMO2: HfFamily = HfFamily {
    class: "Olmo2ForCausalLM",
    model_type: "olmo2",
    family: "olmo2",
    names: SANDWICHED,
    neighbours: false,
    defaults: &[(Key::RmsEps, 1e-5), (Key::RopeTheta, 1e4)],
    ..LLAMA
};

const OLMO3: HfFamily = HfFamily {
    class: "Olmo3ForCausalLM",
    model_type: "olmo3",
    window: Window::Used,
    defaults: &[(Key::RmsEps, 1e-5), (Key::RopeTheta, 1e4), (Key::Window, 4096.0)],
    ..OLMO2
};

const GRANITE: HfFamily = HfFamily {
    class: "GraniteForCausalLM",
    model_type: "granite",
    family: "granite",
    keys: &[
        (Key::AttentionScale, "attention_multiplier"),
        (Key::EmbeddingScale, "embedding_multiplier"),
        (Key::ResidualScale, "residual_multiplier"),
        (Key::LogitDivisor, "logits_scaling"),
    ],
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4), (Key::AttentionScale, 1.0)],
    ..LLAMA
};

const STARCODER2: HfFamily = HfFamily {
    class: "Starcoder2ForCausalLM",
    model_type: "starcoder2",
    family: "starcoder2",
    names: STARCODER,
    keys: &[(Key::LayerEps, "norm_epsilon")],
    window: Window::Used,
    neighbours: false,
    tied: true,
    defaults: &[(Key::LayerEps, 1e-5), (Key::RopeTheta, 1e4), (Key::KvHeads, 2.0)],
    ..LLAMA
};

const PHI2: HfFamily = HfFamily {
    class: "PhiForCausalLM",
    model_type: "phi",
    family: "phi2",
    names: PHI,
    partial_rotation: Some(0.5),
    neighbours: false,
    defaults: &[(Key::LayerEps, 1e-5), (Key::RopeTheta, 1e4)],
    refused: &["qk_layernorm"],
    ..LLAMA
};

const GLM4: HfFamily = HfFamily {
    class: "Glm4ForCausalLM",
    model_type: "glm4",
    family: "glm4",
    names: WITH_TWO_MORE,
    partial_rotation: Some(0.5),
    neighbours: false,
    defaults: &[(Key::RmsEps, 1.5625e-7), (Key::RopeTheta, 1e4), (Key::KvHeads, 2.0), (Key::HeadDim, 128.0)],
    ..LLAMA
};

const MIXTRAL: HfFamily = HfFamily {
    class: "MixtralForCausalLM",
    model_type: "mixtral",
    names: SPARSE,
    keys: &[(Key::Experts, "num_local_experts"), (Key::ExpertsUsed, "num_experts_per_tok")],
    defaults: &[(Key::RmsEps, 1e-5), (Key::RopeTheta, 1e4), (Key::KvHeads, 8.0), (Key::Experts, 8.0), (Key::ExpertsUsed, 2.0)],
    ..MISTRAL
};

const QWEN2MOE: HfFamily = HfFamily {
    class: "Qwen2MoeForCausalLM",
    model_type: "qwen2_moe",
    family: "qwen2moe",
    keys: &[
        (Key::Experts, "num_experts"),
        (Key::ExpertsUsed, "num_experts_per_tok"),
        (Key::ExpertsEvery, "decoder_sparse_step"),
        (Key::ExpertFeedForward, "moe_intermediate_size"),
        (Key::ExpertsNormalised, "norm_topk_prob"),
        (Key::SharedFeedForward, "shared_expert_intermediate_size"),
    ],
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e4),
        (Key::KvHeads, 16.0),
        (Key::Experts, 60.0),
        (Key::ExpertsUsed, 4.0),
        (Key::ExpertFeedForward, 1408.0),
        (Key::ExpertsNormalised, 0.0),
        (Key::SharedFeedForward, 5632.0),
    ],
    refused: &["mlp_only_layers"],
    ..QWEN2
};

const QWEN3MOE: HfFamily = HfFamily {
    class: "Qwen3MoeForCausalLM",
    model_type: "qwen3_moe",
    family: "qwen3moe",
    keys: &[
        (Key::Experts, "num_experts"),
        (Key::Experts, "num_local_experts"),
        (Key::ExpertsUsed, "num_experts_per_tok"),
        (Key::ExpertsEvery, "decoder_sparse_step"),
        (Key::ExpertFeedForward, "moe_intermediate_size"),
        (Key::ExpertsNormalised, "norm_topk_prob"),
    ],
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e4),
        (Key::KvHeads, 4.0),
        (Key::Experts, 128.0),
        (Key::ExpertsUsed, 8.0),
        (Key::ExpertFeedForward, 768.0),
        (Key::ExpertsNormalised, 0.0),
    ],
    ..QWEN2MOE
};

const OLMOE: HfFamily = HfFamily {
    class: "OlmoeForCausalLM",
    model_type: "olmoe",
    family: "olmoe",
    window: Window::Ignored,
    keys: &[(Key::Experts, "num_experts"), (Key::ExpertsUsed, "num_experts_per_tok"), (Key::ExpertsNormalised, "norm_topk_prob")],
    defaults: &[(Key::RmsEps, 1e-5), (Key::RopeTheta, 1e4), (Key::Experts, 64.0), (Key::ExpertsUsed, 8.0), (Key::ExpertsNormalised, 0.0)],
    refused: &["clip_qkv"],
    ..QWEN2
};

const GRANITEMOE: HfFamily = HfFamily {
    class: "GraniteMoeForCausalLM",
    model_type: "granitemoe",
    family: "granitemoe",
    names: SPARSE,
    keys: &[
        (Key::AttentionScale, "attention_multiplier"),
        (Key::EmbeddingScale, "embedding_multiplier"),
        (Key::ResidualScale, "residual_multiplier"),
        (Key::LogitDivisor, "logits_scaling"),
        (Key::Experts, "num_local_experts"),
        (Key::ExpertsUsed, "num_experts_per_tok"),
        (Key::SharedFeedForward, "shared_intermediate_size"),
    ],
    defaults: &[(Key::RmsEps, 1e-6), (Key::RopeTheta, 1e4), (Key::AttentionScale, 1.0), (Key::Experts, 8.0), (Key::ExpertsUsed, 2.0)],
    ..LLAMA
};

const GRANITEMOESHARED: HfFamily = HfFamily { class: "GraniteMoeSharedForCausalLM", model_type: "granitemoeshared", ..GRANITEMOE };

const PHIMOE: HfFamily = HfFamily {
    class: "PhimoeForCausalLM",
    model_type: "phimoe",
    family: "phimoe",
    names: SPARSE,
    keys: &[(Key::LayerEps, "rms_norm_eps"), (Key::Experts, "num_local_experts"), (Key::ExpertsUsed, "num_experts_per_tok")],
    partial_rotation: None,
    defaults: &[(Key::LayerEps, 1e-5), (Key::RopeTheta, 1e4), (Key::KvHeads, 8.0), (Key::Experts, 16.0), (Key::ExpertsUsed, 2.0)],
    fixed: &[("router_jitter_noise", Fixed::Number(0.01))],
    ..PHI3
};

const GPT_OSS: HfFamily = HfFamily {
    class: "GptOssForCausalLM",
    model_type: "gpt_oss",
    family: "gpt-oss",
    names: ROUTED,
    window: Window::Used,
    keys: &[(Key::Experts, "num_local_experts"), (Key::ExpertsUsed, "num_experts_per_tok"), (Key::ExpertsUsed, "experts_per_token")],
    defaults: &[
        (Key::RmsEps, 1e-5),
        (Key::RopeTheta, 1.5e5),
        (Key::KvHeads, 8.0),
        (Key::HeadDim, 64.0),
        (Key::Window, 128.0),
        (Key::Experts, 128.0),
        (Key::ExpertsUsed, 4.0),
    ],
    neighbours: false,
    fixed: &[("swiglu_alpha", Fixed::Number(1.702)), ("swiglu_limit", Fixed::Number(7.0))],
    ..LLAMA
};

const LLAMA4: HfFamily = HfFamily {
    class: "Llama4ForCausalLM",
    model_type: "llama4_text",
    family: "llama4",
    names: LLAMA_4,
    window: Window::Chunks,
    keys: &[
        (Key::FeedForward, "intermediate_size_mlp"),
        (Key::ExpertFeedForward, "intermediate_size"),
        (Key::Experts, "num_local_experts"),
        (Key::ExpertsUsed, "num_experts_per_tok"),
        (Key::ExpertsEvery, "interleave_moe_layer_step"),
        (Key::TemperatureLength, "floor_scale"),
        (Key::TemperatureScale, "attn_scale"),
    ],
    defaults: &[
        (Key::RmsEps, 1e-5),
        (Key::RopeTheta, 5e5),
        (Key::KvHeads, 8.0),
        (Key::HeadDim, 128.0),
        (Key::Window, 8192.0),
        (Key::Experts, 16.0),
        (Key::ExpertsUsed, 1.0),
    ],
    neighbours: false,
    ..LLAMA
};

const DEEPSEEK2: HfFamily = HfFamily {
    class: "DeepseekV2ForCausalLM",
    model_type: "deepseek_v2",
    family: "deepseek2",
    names: LATENTS,
    keys: &LATENT_KEYS,
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e4),
        (Key::LatentRank, 512.0),
        (Key::QueryRank, 1536.0),
        (Key::RopeDims, 64.0),
        (Key::LatentKeyDim, 128.0),
        (Key::LatentValueDim, 128.0),
        (Key::Experts, 64.0),
        (Key::ExpertFeedForward, 1407.0),
        (Key::ExpertScores, 1.0),
        (Key::SharedExperts, 2.0),
    ],
    neighbours: false,
    // `transformers` does not read the first, and the authors' code then multiplies by no factor.
    refused: &["norm_topk_prob", "mlp_bias"],
    fixed: &[("scoring_func", Fixed::Text("softmax")), ("moe_layer_freq", Fixed::Number(1.0))],
    ..LLAMA
};

const LATENT_KEYS: [(Key, &str); 13] = [
    (Key::LatentRank, "kv_lora_rank"),
    (Key::QueryRank, "q_lora_rank"),
    (Key::RopeDims, "qk_rope_head_dim"),
    (Key::LatentKeyDim, "qk_nope_head_dim"),
    (Key::LatentValueDim, "v_head_dim"),
    (Key::Experts, "n_routed_experts"),
    (Key::ExpertsUsed, "num_experts_per_tok"),
    (Key::ExpertFeedForward, "moe_intermediate_size"),
    (Key::ExpertScale, "routed_scaling_factor"),
    (Key::ExpertGroups, "n_group"),
    (Key::ExpertGroupsUsed, "topk_group"),
    (Key::SharedExperts, "n_shared_experts"),
    (Key::LeadingDense, "first_k_dense_replace"),
];

const DEEPSEEK3: HfFamily = HfFamily {
    class: "DeepseekV3ForCausalLM",
    model_type: "deepseek_v3",
    keys: &{
        let mut keys = [(Key::ExpertsNormalised, "norm_topk_prob"); 14];
        let mut i = 0;
        while i < LATENT_KEYS.len() {
            keys[i] = LATENT_KEYS[i];
            i += 1;
        }
        keys
    },
    defaults: &[
        (Key::RmsEps, 1e-6),
        (Key::RopeTheta, 1e4),
        (Key::LatentRank, 512.0),
        (Key::QueryRank, 1536.0),
        (Key::RopeDims, 64.0),
        (Key::LatentKeyDim, 128.0),
        (Key::LatentValueDim, 128.0),
        (Key::Experts, 256.0),
        (Key::ExpertsUsed, 8.0),
        (Key::ExpertFeedForward, 2048.0),
        (Key::ExpertScores, 2.0),
        (Key::ExpertScale, 2.5),
        (Key::ExpertGroups, 8.0),
        (Key::ExpertGroupsUsed, 4.0),
        (Key::ExpertsNormalised, 1.0),
        (Key::SharedExperts, 1.0),
        (Key::LeadingDense, 3.0),
    ],
    refused: &[],
    fixed: &[
        ("scoring_func", Fixed::Text("sigmoid")),
        ("topk_method", Fixed::Text("noaux_tc")),
        ("moe_layer_freq", Fixed::Number(1.0)),
        ("rope_interleave", Fixed::True),
    ],
    has_later_layers: true,
    ..DEEPSEEK2
};

impl HfFamily {
    /// Every architecture that this build runs.
    pub(super) const ALL: [Self; 27] = [
        LLAMA,
        MISTRAL,
        QWEN2,
        QWEN3,
        GEMMA,
        GEMMA2,
        GEMMA3,
        GEMMA3N,
        PHI3,
        SMOLLM3,
        OLMO2,
        OLMO3,
        GRANITE,
        STARCODER2,
        PHI2,
        GLM4,
        MIXTRAL,
        QWEN2MOE,
        QWEN3MOE,
        OLMOE,
        GRANITEMOE,
        GRANITEMOESHARED,
        PHIMOE,
        GPT_OSS,
        LLAMA4,
        DEEPSEEK2,
        DEEPSEEK3,
    ];

    /// Its traits.
    pub(super) fn traits(&self) -> Option<Family> {
        Family::by_name(self.family)
    }

    /// What a missing `key` means.
    pub(super) fn default(&self, key: Key) -> Option<f64> {
        self.defaults.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_family_and_a_class_has_one() {
        for row in HfFamily::ALL {
            assert!(row.traits().is_some(), "{}", row.class);
            assert_eq!(HfFamily::ALL.iter().filter(|other| other.class == row.class || other.model_type == row.model_type).count(), 1);
        }
    }
}
