//! What `transformers` calls each weight: tables of module names, used by `tensors`.

use crate::model::names::{Part, Role};

/// The modules of an architecture: first the tables that differ, then the usual one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    own: &'static [(&'static str, Role)],
}

/// Modules that exist once.
const TOP: [(&str, Role); 3] = [("model.embed_tokens", Role::TokenEmbedding), ("model.norm", Role::OutputNorm), ("lm_head", Role::Output)];

/// Modules of a layer, `model.layers.{i}.`.
const LAYER: [(&str, Role); 14] = [
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
];

/// As most are.
pub(super) const USUAL: Names = Names { own: &[] };

/// Norms around, or behind: the norm in front of the feed-forward has another name.
pub(super) const SANDWICHED: Names =
    Names { own: &[("post_attention_layernorm", Role::PostAttentionNorm), ("pre_feedforward_layernorm", Role::FeedForwardNorm)] };

/// GLM-4: norms around, named after where they are.
pub(super) const WITH_TWO_MORE: Names =
    Names { own: &[("post_self_attn_layernorm", Role::PostAttentionNorm), ("post_mlp_layernorm", Role::PostFeedForwardNorm)] };

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

/// Tensors that older files hold and that are computed instead: the frequencies of the rotation.
pub(super) fn is_computed(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

impl Names {
    /// The role of the tensor called `name`, its layer (0 where there is none), and which part it is.
    pub(super) fn find(self, name: &str) -> Option<(Role, usize, Part)> {
        let (module, part) = match name.rsplit_once('.')? {
            (module, "weight") => (module, Part::Weight),
            (module, "bias") => (module, Part::Bias),
            _ => return None,
        };
        let Some((layer, module)) = module.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
            return self.role(module, &TOP).map(|role| (role, 0, part));
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
                let kind = if part == Part::Weight { "weight" } else { "bias" };
                return layer.map_or_else(|| format!("{module}.{kind}"), |layer| format!("model.layers.{layer}.{module}.{kind}"));
            }
        }
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_published_files() {
        assert_eq!(USUAL.find("model.layers.7.self_attn.q_proj.bias"), Some((Role::Query, 7, Part::Bias)));
        assert_eq!(USUAL.find("lm_head.weight"), Some((Role::Output, 0, Part::Weight)));
        assert_eq!(SANDWICHED.find("model.layers.0.post_attention_layernorm.weight"), Some((Role::PostAttentionNorm, 0, Part::Weight)));
        for unknown in ["model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.c_fc.weight", "lm_head", "lm_head.scales", ""] {
            assert_eq!(USUAL.find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn messages_call_tensors_as_their_file_does() {
        for names in [USUAL, SANDWICHED, WITH_TWO_MORE, STARCODER, PHI] {
            for name in ["model.embed_tokens.weight", "model.layers.3.input_layernorm.bias", "model.layers.12.self_attn.k_proj.weight"] {
                let (role, layer, part) = names.find(name).unwrap();
                assert_eq!(names.label(&role.gguf_name(layer, part)), name);
            }
        }
        assert_eq!(PHI.label("blk.2.ffn_up.weight"), "model.layers.2.mlp.fc1.weight");
        assert_eq!(USUAL.label("rope_freqs.weight"), "rope_freqs.weight");
    }
}
