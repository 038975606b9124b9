//! What each weight is called in a file: names as data, so that a format is a table and not a code path.

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `(n_vocab, n_embd)`
    TokenEmbedding,
    /// `(n_embd,)`: the norm before the head.
    OutputNorm,
    /// `(n_vocab, n_embd)`: absent if tied to the embedding.
    Output,
    /// `(n_rot / 2,)`: divides the rotary frequencies.
    RopeFactors,
    /// `(n_rot / 2,)`: the same, for contexts beyond the original one.
    RopeFactorsLong,
    /// `(n_rot / 2,)`: the same, for contexts within it.
    RopeFactorsShort,
    /// `(n_embd,)`
    AttentionNorm,
    /// `(n_heads * head_dim, n_embd)`
    Query,
    /// `(n_kv_heads * head_dim, n_embd)`
    Key,
    /// `(n_kv_heads * head_dim, n_embd)`
    Value,
    /// `((n_heads + 2 * n_kv_heads) * head_dim, n_embd)`: the three above in one.
    QueryKeyValue,
    /// `(n_embd, n_heads * head_dim)`
    AttentionOutput,
    /// `(query_rank, n_embd)`: what queries are made of.
    QueryDown,
    /// `(query_rank,)`
    QueryDownNorm,
    /// `(n_heads * (n_still + n_rot), query_rank)`
    QueryUp,
    /// `(rank + n_rot, n_embd)`: the latent, and the part of a key that rotates.
    LatentKey,
    /// `(rank,)`
    LatentNorm,
    /// `(n_heads * (n_still + n_value), rank)`: in each head the rows that make keys, then those that make values.
    LatentUp,
    /// `(n_heads, rank, n_still)`: the first of these, turned round.
    KeyUp,
    /// `(n_heads, n_value, rank)`: the second.
    ValueUp,
    /// `(head_dim,)` or `(n_heads * head_dim,)`: normalises each query head, or all.
    QueryNorm,
    /// `(head_dim,)` or `(n_kv_heads * head_dim,)`: normalises each key head, or all.
    KeyNorm,
    /// `(n_embd,)`: the norm of what attention gives.
    PostAttentionNorm,
    /// `(n_embd,)`
    FeedForwardNorm,
    /// `(n_ff, n_embd)`
    Gate,
    /// `(n_ff, n_embd)`
    Up,
    /// `(2 * n_ff, n_embd)`: gate and up in one.
    GateUp,
    /// `(n_embd, n_ff)`
    Down,
    /// `(n_embd,)`: the norm of what the feed-forward gives.
    PostFeedForwardNorm,
    /// `(n_heads,)`: the score of each head's sink.
    Sinks,
    /// `(n_experts, n_embd)`
    Router,
    /// `(n_experts,)`: added to the scores when experts are chosen.
    ChoiceBias,
    /// `(n_experts, n_ff, n_embd)`
    ExpertGate,
    /// `(n_experts, n_ff, n_embd)`
    ExpertUp,
    /// `(n_experts, n_embd, n_ff)`
    ExpertDown,
    /// `(n_embd,)`: weighs the shared expert.
    SharedRouter,
    /// `(n_ff, n_embd)`
    SharedGate,
    /// `(n_ff, n_embd)`
    SharedUp,
    /// `(n_embd, n_ff)`
    SharedDown,
    /// `(n, n_layers * n_per_layer)`: the embeddings of all layers.
    PerLayerEmbedding,
    /// `(n_layers * n_per_layer, n_embd)`
    PerLayerInputs,
    /// `(n_per_layer,)`
    PerLayerInputsNorm,
    /// `(n_streams - 1, n_embd, n_embd)`
    StreamSpread,
    /// `(n_streams - 1, n_embd, n_embd)`
    StreamMerge,
    /// `(n_embd,)`
    StreamRouterNorm,
    /// `(n_streams, n_embd)`
    StreamRouter,
    /// `(n_streams * n_streams, n_streams)`
    StreamPredict,
    /// `(n_streams, n_streams)`
    StreamCorrect,
    /// `(n_embd,)`
    StreamScale,
    /// `(rank, n_embd)`
    LaurelLeft,
    /// `(n_embd, rank)`
    LaurelRight,
    /// `(n_embd,)`
    LaurelNorm,
    /// `(n_per_layer, n_embd)`
    PerLayerGate,
    /// `(n_embd, n_per_layer)`
    PerLayerOutput,
    /// `(n_embd,)`
    PerLayerOutputNorm,
}

/// Whether a tensor is the matrix or the bias of its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The matrix, or the weights of a norm.
    Weight,
    /// Added to the product.
    Bias,
}

impl Role {
    const fn gguf_stem(self) -> (&'static str, bool) {
        match self {
            Self::TokenEmbedding => ("token_embd", false),
            Self::OutputNorm => ("output_norm", false),
            Self::Output => ("output", false),
            Self::RopeFactors => ("rope_freqs", false),
            Self::RopeFactorsLong => ("rope_factors_long", false),
            Self::RopeFactorsShort => ("rope_factors_short", false),
            Self::AttentionNorm => ("attn_norm", true),
            Self::Query => ("attn_q", true),
            Self::Key => ("attn_k", true),
            Self::Value => ("attn_v", true),
            Self::QueryKeyValue => ("attn_qkv", true),
            Self::AttentionOutput => ("attn_output", true),
            Self::QueryDown => ("attn_q_a", true),
            Self::QueryDownNorm => ("attn_q_a_norm", true),
            Self::QueryUp => ("attn_q_b", true),
            Self::LatentKey => ("attn_kv_a_mqa", true),
            Self::LatentNorm => ("attn_kv_a_norm", true),
            Self::LatentUp => ("attn_kv_b", true),
            Self::KeyUp => ("attn_k_b", true),
            Self::ValueUp => ("attn_v_b", true),
            Self::QueryNorm => ("attn_q_norm", true),
            Self::KeyNorm => ("attn_k_norm", true),
            Self::PostAttentionNorm => ("post_attention_norm", true),
            Self::FeedForwardNorm => ("ffn_norm", true),
            Self::Gate => ("ffn_gate", true),
            // Twice as long where it holds the gate, too.
            Self::Up | Self::GateUp => ("ffn_up", true),
            Self::Down => ("ffn_down", true),
            Self::PostFeedForwardNorm => ("post_ffw_norm", true),
            Self::Sinks => ("attn_sinks", true),
            Self::Router => ("ffn_gate_inp", true),
            Self::ChoiceBias => ("exp_probs_b", true),
            Self::ExpertGate => ("ffn_gate_exps", true),
            Self::ExpertUp => ("ffn_up_exps", true),
            Self::ExpertDown => ("ffn_down_exps", true),
            Self::SharedRouter => ("ffn_gate_inp_shexp", true),
            Self::SharedGate => ("ffn_gate_shexp", true),
            Self::SharedUp => ("ffn_up_shexp", true),
            Self::SharedDown => ("ffn_down_shexp", true),
            Self::PerLayerEmbedding => ("per_layer_token_embd", false),
            Self::PerLayerInputs => ("per_layer_model_proj", false),
            Self::PerLayerInputsNorm => ("per_layer_proj_norm", false),
            Self::StreamSpread => ("altup_proj", false),
            Self::StreamMerge => ("altup_unembd_proj", false),
            Self::StreamRouterNorm => ("altup_router_norm", true),
            Self::StreamRouter => ("altup_router", true),
            Self::StreamPredict => ("altup_predict_coef", true),
            Self::StreamCorrect => ("altup_correct_coef", true),
            Self::StreamScale => ("altup_correct_scale", true),
            Self::LaurelLeft => ("laurel_l", true),
            Self::LaurelRight => ("laurel_r", true),
            Self::LaurelNorm => ("laurel_post_norm", true),
            Self::PerLayerGate => ("inp_gate", true),
            Self::PerLayerOutput => ("proj", true),
            Self::PerLayerOutputNorm => ("post_norm", true),
        }
    }

    /// True if its tensor is that of a norm.
    pub(super) const fn is_norm(self) -> bool {
        matches!(
            self,
            Self::OutputNorm
                | Self::AttentionNorm
                | Self::QueryDownNorm
                | Self::LatentNorm
                | Self::QueryNorm
                | Self::KeyNorm
                | Self::PostAttentionNorm
                | Self::FeedForwardNorm
                | Self::PostFeedForwardNorm
        )
    }

    /// The name in a GGUF file; `layer` is ignored by roles that exist once.
    pub fn gguf_name(self, layer: usize, part: Part) -> String {
        let suffix = match part {
            Part::Weight => "weight",
            Part::Bias => "bias",
        };
        match self.gguf_stem() {
            (stem, true) => format!("blk.{layer}.{stem}.{suffix}"),
            (stem, false) => format!("{stem}.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_public_files() {
        assert_eq!(Role::Query.gguf_name(7, Part::Bias), "blk.7.attn_q.bias");
        assert_eq!(Role::TokenEmbedding.gguf_name(7, Part::Weight), "token_embd.weight");
    }
}
