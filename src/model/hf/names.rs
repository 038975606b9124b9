//! What `transformers` calls each weight: tables of module names, used by `tensors`.

use crate::model::names::{Part, Role};

/// The modules of an architecture: first the tables that differ, then the usual one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    own: &'static [(&'static str, Role)],
}

/// Modules that exist once.
const TOP: [(&str, Role); 3] = [("model.embed_tokens", Role::TokenEmbedding), ("model.norm", Role::OutputNorm), ("lm_head", Role::Output)];

/// What the names of a layer's modules begin with.
const LAYERS: &str = "model.layers.";

/// Modules of a layer, `model.layers.{i}.`.
const LAYER: [(&str, Role); 19] = [
    ("input_layernorm", Role::AttentionNorm),
    ("self_attn.q_proj", Role::Query),
    ("self_attn.k_proj", Role::Key),
    ("self_attn.v_proj", Role::Value),
    ("self_attn.qkv_proj", Role::QueryKeyValue),
    ("self_attn.o_proj", Role::AttentionOutput),
    ("self_attn.q_norm", Role::QueryNorm),
    ("self_attn.k_norm", Role::KeyNorm),
    ("post_attention_layernorm", Role::FeedForwardNorm),
    ("mlp.gate_proj", Role::Gate),
    ("mlp.up_proj", Role::Up),
    ("mlp.gate_up_proj", Role::GateUp),
    ("mlp.down_proj", Role::Down),
    ("post_feedforward_layernorm", Role::PostFeedForwardNorm),
    ("mlp.gate", Role::Router),
    ("mlp.shared_expert.gate_proj", Role::SharedGate),
    ("mlp.shared_expert.up_proj", Role::SharedUp),
    ("mlp.shared_expert.down_proj", Role::SharedDown),
    ("mlp.shared_expert_gate", Role::SharedRouter),
];

/// Tensors of a layer that are called neither a weight nor a bias.
const WHOLE: [(&str, Role, Part); 2] =
    [("self_attn.sinks", Role::Sinks, Part::Weight), ("mlp.gate.e_score_correction_bias", Role::ChoiceBias, Part::Bias)];

/// As most are.
pub(super) const USUAL: Names = Names { own: &[] };

/// Norms around, or behind: the norm in front of the feed-forward has another name.
pub(super) const SANDWICHED: Names =
    Names { own: &[("post_attention_layernorm", Role::PostAttentionNorm), ("pre_feedforward_layernorm", Role::FeedForwardNorm)] };

/// GLM-4: norms around, named after where they are.
pub(super) const WITH_TWO_MORE: Names =
    Names { own: &[("post_self_attn_layernorm", Role::PostAttentionNorm), ("post_mlp_layernorm", Role::PostFeedForwardNorm)] };

/// Gemma 3n.
pub(super) const GEMMA3N: Names = Names {
    own: &[
        ("post_attention_layernorm", Role::PostAttentionNorm),
        ("pre_feedforward_layernorm", Role::FeedForwardNorm),
        ("model.embed_tokens_per_layer", Role::PerLayerEmbedding),
        ("model.per_layer_model_projection", Role::PerLayerInputs),
        ("model.per_layer_projection_norm", Role::PerLayerInputsNorm),
        ("model.altup_projections", Role::StreamSpread),
        ("model.altup_unembed_projections", Role::StreamMerge),
        ("altup.router_norm", Role::StreamRouterNorm),
        ("altup.modality_router", Role::StreamRouter),
        ("altup.prediction_coefs", Role::StreamPredict),
        ("altup.correction_coefs", Role::StreamCorrect),
        ("altup.correct_output_scale", Role::StreamScale),
        ("laurel.linear_left", Role::LaurelLeft),
        ("laurel.linear_right", Role::LaurelRight),
        ("laurel.post_laurel_norm", Role::LaurelNorm),
        ("per_layer_input_gate", Role::PerLayerGate),
        ("per_layer_projection", Role::PerLayerOutput),
        ("post_per_layer_input_norm", Role::PerLayerOutputNorm),
    ],
};

/// StarCoder2.
pub(super) const STARCODER: Names = Names { own: &[("mlp.c_fc", Role::Up), ("mlp.c_proj", Role::Down)] };

/// Phi-1.5 and 2.
pub(super) const PHI: Names = Names {
    own: &[
        ("model.final_layernorm", Role::OutputNorm),
        ("self_attn.dense", Role::AttentionOutput),
        ("mlp.fc1", Role::Up),
        ("mlp.fc2", Role::Down),
    ],
};

/// Modules whose tensor is called as they are.
const BARE: [&str; 1] = ["altup.correct_output_scale"];

/// Roles of several modules that GGUF has as one tensor, one below the other.
const STACKED: [Role; 2] = [Role::StreamSpread, Role::StreamMerge];
/// Mixtral, Phi-3.5-MoE, Granite-MoE: experts in a module of their own.
pub(super) const SPARSE: Names = Names {
    own: &[
        ("block_sparse_moe.gate", Role::Router),
        ("block_sparse_moe.router.layer", Role::Router),
        ("shared_mlp.output_linear", Role::SharedDown),
    ],
};

/// gpt-oss: in GGUF, the norm in front of the feed-forward is called after what is before it, too.
pub(super) const ROUTED: Names = Names { own: &[("mlp.router", Role::Router), ("post_attention_layernorm", Role::PostAttentionNorm)] };

/// Llama 4.
pub(super) const LLAMA_4: Names = Names {
    own: &[
        ("feed_forward.router", Role::Router),
        ("feed_forward.gate_proj", Role::Gate),
        ("feed_forward.up_proj", Role::Up),
        ("feed_forward.down_proj", Role::Down),
        ("feed_forward.shared_expert.gate_proj", Role::SharedGate),
        ("feed_forward.shared_expert.up_proj", Role::SharedUp),
        ("feed_forward.shared_expert.down_proj", Role::SharedDown),
    ],
};

/// DeepSeek.
pub(super) const LATENTS: Names = Names {
    own: &[
        ("self_attn.q_a_proj", Role::QueryDown),
        ("self_attn.q_a_layernorm", Role::QueryDownNorm),
        ("self_attn.q_b_proj", Role::QueryUp),
        ("self_attn.kv_a_proj_with_mqa", Role::LatentKey),
        ("self_attn.kv_a_layernorm", Role::LatentNorm),
        ("self_attn.kv_b_proj", Role::LatentUp),
        ("mlp.shared_experts.gate_proj", Role::SharedGate),
        ("mlp.shared_experts.up_proj", Role::SharedUp),
        ("mlp.shared_experts.down_proj", Role::SharedDown),
    ],
};

/// Tensors that older files hold and that are computed instead: the frequencies of the rotation.
pub(super) fn is_computed(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

impl Names {
    /// The role of the tensor called `name`, its layer (0 where there is none; of a stacked one its number), and which part it is.
    pub(super) fn find(self, name: &str) -> Option<(Role, usize, Part)> {
        if let Some((layer, module)) = name.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.'))
            && let Some((_, role, part)) = WHOLE.iter().find(|(whole, ..)| *whole == module)
        {
            return Some((*role, layer.parse().ok()?, *part));
        }
        let (module, part) = match name.rsplit_once('.')? {
            (module, "weight") => (module, Part::Weight),
            (module, "bias") => (module, Part::Bias),
            _ if BARE.iter().any(|bare| name.ends_with(bare)) => (name, Part::Weight),
            _ => return None,
        };
        let Some((layer, module)) = module.strip_prefix(LAYERS).and_then(|rest| rest.split_once('.')) else {
            let numbered = || {
                let (module, number) = module.rsplit_once('.')?;
                let role = self.role(module, &TOP).filter(|role| is_stacked(*role))?;
                Some((role, number.parse().ok()?, part))
            };
            return self.role(module, &TOP).filter(|role| !is_stacked(*role)).map(|role| (role, 0, part)).or_else(numbered);
        };
        Some((self.role(module, &LAYER)?, layer.parse().ok()?, part))
    }

    fn role(self, module: &str, usual: &[(&str, Role)]) -> Option<Role> {
        self.own.iter().chain(usual).find(|(name, _)| *name == module).map(|(_, role)| *role)
    }

    /// What the tensor that GGUF calls `name` would be called; `name` itself for those that only GGUF has.
    pub(super) fn label(self, name: &str) -> String {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).and_then(|(layer, _)| layer.parse().ok());
        let usual = if layer.is_some() { &LAYER[..] } else { &TOP[..] };
        for part in [Part::Weight, Part::Bias] {
            let is_meant = |(_, role): &&(&str, Role)| role.gguf_name(layer.unwrap_or(0), part) == name;
            if let Some((module, _)) = self.own.iter().chain(usual).find(is_meant) {
                let kind = if part == Part::Weight { ".weight" } else { ".bias" };
                let kind = if BARE.contains(module) { "" } else { kind };
                return layer.map_or_else(|| format!("{module}{kind}"), |layer| format!("model.layers.{layer}.{module}{kind}"));
            }
        }
        name.to_owned()
    }
}

/// True if GGUF has the tensors of `role` as one.
pub(super) fn is_stacked(role: Role) -> bool {
    STACKED.contains(&role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_published_files() {
        assert_eq!(USUAL.find("model.layers.7.self_attn.q_proj.bias"), Some((Role::Query, 7, Part::Bias)));
        assert_eq!(USUAL.find("model.layers.2.self_attn.sinks"), Some((Role::Sinks, 2, Part::Weight)));
        assert_eq!(LATENTS.find("model.layers.2.mlp.gate.e_score_correction_bias"), Some((Role::ChoiceBias, 2, Part::Bias)));
        assert_eq!(USUAL.find("lm_head.weight"), Some((Role::Output, 0, Part::Weight)));
        assert_eq!(SANDWICHED.find("model.layers.0.post_attention_layernorm.weight"), Some((Role::PostAttentionNorm, 0, Part::Weight)));
        for unknown in ["model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.c_fc.weight", "lm_head", "lm_head.scales", ""] {
            assert_eq!(USUAL.find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn messages_call_tensors_as_their_file_does() {
        for names in [USUAL, SANDWICHED, WITH_TWO_MORE, STARCODER, PHI, SPARSE, ROUTED, LLAMA_4, LATENTS] {
            for name in ["model.embed_tokens.weight", "model.layers.3.input_layernorm.bias", "model.layers.12.self_attn.k_proj.weight"] {
                let (role, layer, part) = names.find(name).unwrap();
                assert_eq!(names.label(&role.gguf_name(layer, part)), name);
            }
        }
        let scale = "model.layers.2.altup.correct_output_scale";
        assert_eq!(GEMMA3N.find(scale), Some((Role::StreamScale, 2, Part::Weight)));
        assert_eq!(GEMMA3N.label("blk.2.altup_correct_scale.weight"), scale);
        assert_eq!(GEMMA3N.find("model.altup_projections.1.weight"), Some((Role::StreamSpread, 1, Part::Weight)));
        assert_eq!((GEMMA3N.find("model.altup_projections.weight"), GEMMA3N.find("model.norm.1.weight")), (None, None));
        assert_eq!(PHI.label("blk.2.ffn_up.weight"), "model.layers.2.mlp.fc1.weight");
        assert_eq!(USUAL.label("rope_freqs.weight"), "rope_freqs.weight");
    }
}
