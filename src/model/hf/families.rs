//! The architectures of `transformers` that this build runs: which [`Family`] each is, and how its config.json and tensors are written.
//!
//! Defaults are those of the configuration classes of `transformers`, for keys that a file leaves out.

use super::names::{GEMMA3N as STREAMED, Names, PHI, SANDWICHED, STARCODER, USUAL, WITH_TWO_MORE};
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
    /// Keys that this architecture has beside, or instead of, the usual ones.
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
    /// Flags that must not be set: they change the arithmetic.
    pub(super) refused: &'static [&'static str],
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

impl HfFamily {
    /// Every architecture that this build runs.
    pub(super) const ALL: [Self; 16] =
        [LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, GEMMA3N, PHI3, SMOLLM3, OLMO2, OLMO3, GRANITE, STARCODER2, PHI2, GLM4];

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
