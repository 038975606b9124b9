"""The tiny models that the golden data is made of: one per family, with sizes that forgive no assumption.

Odd on purpose: a vocabulary that no SIMD width divides, a feed-forward that is no multiple of 32, grouped queries 3:1, 7:1
and 5:1, `head_dim != hidden / heads` where the family has the key, an epsilon that is nobody's default.
"""

import math
from dataclasses import dataclass

import torch
from transformers import (
    AutoModelForCausalLM, DeepseekV2Config, DeepseekV3Config, Gemma2Config, Gemma3nTextConfig, Gemma3TextConfig, GemmaConfig, Glm4Config, GptOssConfig, GraniteConfig,
    GraniteMoeSharedConfig,
    Llama4TextConfig, LlamaConfig, MistralConfig, MixtralConfig, Olmo2Config, Olmo3Config, OlmoeConfig, Phi3Config, PhiConfig, PhimoeConfig, PreTrainedConfig,
    PreTrainedModel, Qwen2Config, Qwen2MoeConfig, Qwen3Config, Qwen3MoeConfig, SmolLM3Config, Starcoder2Config,
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A model to make."""

    name: str
    """Stem of its files."""
    seed: int
    """Chosen so that the greedy continuation varies and has no near ties (`make.py` refuses those)."""
    config: PreTrainedConfig
    tokenizer: str
    """`tokenizer.ggml.pre`, or `spm`."""
    minimal: bool = False
    """Leave out every key that has a default, so that the defaults are tested."""
    n_prompt: int = 71
    """Crosses two borders of 32-token KV blocks; prime, so that no chunk size divides it."""
    seeks_traps: bool = True
    """Check in torch, tensor by tensor, that a wrong one would show. The first families do it in numpy."""
    is_old: bool = False
    """Latents as files before 2025 have them: one tensor that makes all keys and values, the sizes of heads under the usual keys."""


FIRST = dict(n_prompt=101, seeks_traps=False)
PLAIN = dict(rope_type="default", rope_theta=10000.0)
SMALL = dict(vocab_size=269, hidden_size=30, intermediate_size=36, num_attention_heads=6, num_key_value_heads=2)
COMMON = dict(num_hidden_layers=3, max_position_embeddings=512, attn_implementation="eager", bos_token_id=1, eos_token_id=2)


def families() -> list[Family]:
    """Every family, smallest traps first."""
    return [
        Family("llama-tied", 16, llama_tied(), "spm", minimal=True, **FIRST),
        Family("llama-3.1", 14, llama31(), "llama-bpe", **FIRST),
        Family("qwen2", 1, qwen2(), "qwen2", **FIRST),
        Family("qwen3", 4, qwen3(), "qwen2", **FIRST),
        Family("qwen3-yarn", 2, qwen3_yarn(), "qwen2"),
        Family("mistral", 0, mistral(), "llama-bpe"),
        Family("gemma", 0, gemma(), "llama-bpe"),
        Family("gemma2", 15, gemma2(), "llama-bpe"),
        Family("gemma3", 2, gemma3(), "llama-bpe"),
        Family("gemma3n", 0, gemma3n(), "llama-bpe"),
        Family("phi3", 1, phi3(), "llama-bpe"),
        Family("phi3-long", 0, phi3(long=True), "llama-bpe"),
        Family("smollm3", 0, smollm3(), "llama-bpe"),
        Family("olmo2", 1, olmo2(), "llama-bpe"),
        Family("granite", 0, granite(), "llama-bpe"),
        Family("starcoder2", 8, starcoder2(), "llama-bpe"),
        Family("phi2", 0, phi2(), "llama-bpe"),
        Family("glm4", 1, glm4(), "llama-bpe"),
        Family("mixtral", 0, mixtral(), "llama-bpe"),
        Family("qwen2moe", 0, qwen2moe(), "qwen2"),
        Family("qwen3moe", 1, qwen3moe(), "qwen2"),
        Family("olmoe", 0, olmoe(), "llama-bpe"),
        Family("granitemoe", 0, granitemoe(), "llama-bpe"),
        Family("phimoe", 0, phimoe(), "llama-bpe"),
        Family("gpt-oss", 0, gpt_oss(), "llama-bpe"),
        Family("llama4", 0, llama4(), "llama-bpe"),
        Family("olmo3", 0, olmo3(), "llama-bpe"),
        Family("deepseek2-lite", 0, deepseek2(lite=True), "llama-bpe", is_old=True),
        Family("deepseek2", 1, deepseek2(), "llama-bpe"),
        Family("deepseek3", 0, deepseek3(), "llama-bpe"),
    ]


def llama_tied() -> PreTrainedConfig:
    """As many KV heads as heads, the embedding is the head."""
    return LlamaConfig(
        vocab_size=283, hidden_size=40, intermediate_size=52, num_attention_heads=4, num_key_value_heads=4,
        rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0), **COMMON,
    )  # fmt: skip


def llama31() -> PreTrainedConfig:
    """Wave lengths 6, 29, 135, ...: one untouched, one between the two limits (16 and 64), four divided by the factor."""
    scaling = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    return LlamaConfig(
        vocab_size=277, hidden_size=42, intermediate_size=52, num_attention_heads=6, num_key_value_heads=2, head_dim=12,
        rms_norm_eps=3e-4, tie_word_embeddings=False, rope_parameters=scaling | dict(original_max_position_embeddings=64), **COMMON,
    )  # fmt: skip


def qwen2() -> PreTrainedConfig:
    """Biases on Q, K and V; tied."""
    return Qwen2Config(
        vocab_size=281, hidden_size=56, intermediate_size=44, num_attention_heads=7, num_key_value_heads=1,
        rms_norm_eps=2e-4, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6), **COMMON,
    )  # fmt: skip


def qwen3() -> PreTrainedConfig:
    """Norms on the heads of Q and K, heads twice as wide as hidden / heads."""
    return Qwen3Config(
        vocab_size=271, hidden_size=40, intermediate_size=52, num_attention_heads=5, num_key_value_heads=1, head_dim=16,
        rms_norm_eps=2e-4, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=1e6), **COMMON,
    )  # fmt: skip


def qwen3_yarn() -> PreTrainedConfig:
    """Stretched eight times: of the waves, some stay, some are blended, some divided."""
    rope = dict(rope_type="yarn", rope_theta=1000.0, factor=8.0, original_max_position_embeddings=64)
    return Qwen3Config(**SMALL, head_dim=16, rms_norm_eps=2e-4, tie_word_embeddings=True, rope_parameters=rope, **COMMON)


def mistral() -> PreTrainedConfig:
    """A window shorter than a block."""
    return MistralConfig(
        **SMALL, head_dim=10, rms_norm_eps=2e-4, tie_word_embeddings=True, sliding_window=23, rope_parameters=PLAIN, **COMMON,
    )  # fmt: skip


def gemma() -> PreTrainedConfig:
    """Norms of 1 + w, a scaled embedding."""
    return GemmaConfig(**SMALL, head_dim=10, rms_norm_eps=2e-4, rope_parameters=PLAIN, **COMMON)


def gemma2() -> PreTrainedConfig:
    """A window in every other layer, soft caps that bite, a scale of its own."""
    return Gemma2Config(
        **SMALL, head_dim=10, rms_norm_eps=2e-4, sliding_window=19, query_pre_attn_scalar=7, attn_logit_softcapping=3.0,
        final_logit_softcapping=4.0, rope_parameters=PLAIN, **COMMON,
    )  # fmt: skip


def gemma3() -> PreTrainedConfig:
    """Two rotary embeddings: that of the layer without a window is stretched."""
    rope = dict(
        full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
        sliding_attention=dict(rope_type="default", rope_theta=1e3),
    )
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3TextConfig(
        **SMALL, head_dim=10, rms_norm_eps=2e-4, sliding_window=21, query_pre_attn_scalar=7, rope_parameters=rope, layer_types=layers, **COMMON,
    )  # fmt: skip


def gemma3n() -> PreTrainedConfig:
    """Three residual streams, layers on the second; feed-forwards of three widths, four of them sparse; the last three layers read keys and values of
    the third and the fourth; a table of layers' embeddings that is shorter than the vocabulary."""
    rope = dict(
        full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
        sliding_attention=dict(rope_type="default", rope_theta=1e3),
    )
    layers = [f"{kind}_attention" for kind in ("sliding", "full", "sliding", "full", "sliding", "sliding", "full")]
    sizes = SMALL | dict(intermediate_size=[36, 36, 29, 36, 41, 36, 36])
    common = COMMON | dict(num_hidden_layers=7)
    return Gemma3nTextConfig(
        **sizes, head_dim=10, rms_norm_eps=2e-4, sliding_window=21, rope_parameters=rope, layer_types=layers, final_logit_softcapping=6.0,
        vocab_size_per_layer_input=251, hidden_size_per_layer_input=9, altup_num_inputs=3, altup_active_idx=1, num_kv_shared_layers=3,
        laurel_rank=7, activation_sparsity_pattern=[0.6, 0.0, 0.9, 0.4, 0.0, 0.5, 0.0], pad_token_id=0, **common,
    )  # fmt: skip


def phi3(long: bool = False) -> PreTrainedConfig:
    """Fused projections; three quarters of a head rotate, by long factors beyond 32 tokens."""
    sizes = SMALL | dict(hidden_size=48)
    rope = PLAIN | dict(partial_rotary_factor=0.75)
    if long:
        factors = dict(short_factor=[1.0, 1.1, 1.2], long_factor=[1.3, 2.5, 4.0], original_max_position_embeddings=32)
        rope |= dict(rope_type="longrope", **factors)
    return Phi3Config(
        **sizes, rms_norm_eps=2e-4, tie_word_embeddings=True, sliding_window=None if long else 27, pad_token_id=0,
        original_max_position_embeddings=32 if long else 512, rope_parameters=rope, **COMMON,
    )  # fmt: skip


def smollm3() -> PreTrainedConfig:
    """The fourth of its layers does not rotate."""
    common = COMMON | dict(num_hidden_layers=5)
    return SmolLM3Config(
        **SMALL, head_dim=10, rms_norm_eps=2e-4, tie_word_embeddings=True, pad_token_id=0, rope_parameters=PLAIN, **common,
    )  # fmt: skip


def olmo2() -> PreTrainedConfig:
    """No norm before attention and feed-forward, one behind each; queries and keys normalised over all heads."""
    return Olmo2Config(**SMALL, head_dim=10, rms_norm_eps=2e-4, tie_word_embeddings=True, pad_token_id=0, rope_parameters=PLAIN, **COMMON)


def granite() -> PreTrainedConfig:
    """Four scales."""
    scales = dict(embedding_multiplier=0.6, logits_scaling=0.7, residual_multiplier=0.8, attention_multiplier=0.2)
    return GraniteConfig(**SMALL, head_dim=10, rms_norm_eps=2e-4, tie_word_embeddings=True, rope_parameters=PLAIN, **scales, **COMMON)


def starcoder2() -> PreTrainedConfig:
    """Layer norms, biases everywhere, no gate, a window."""
    sizes = SMALL | dict(hidden_size=36)
    return Starcoder2Config(**sizes, norm_epsilon=2e-4, sliding_window=25, rope_parameters=PLAIN, **COMMON)


def phi2() -> PreTrainedConfig:
    """Attention and feed-forward side by side, two thirds of a head rotate, a bias on the head."""
    sizes = SMALL | dict(hidden_size=36)
    return PhiConfig(**sizes, layer_norm_eps=2e-4, rope_parameters=PLAIN | dict(partial_rotary_factor=0.67), **COMMON)


def glm4() -> PreTrainedConfig:
    """Neighbours rotate, in half of a head; norms around; fused gate."""
    return Glm4Config(
        **SMALL, head_dim=12, rms_norm_eps=2e-4, tie_word_embeddings=True, pad_token_id=0,
        rope_parameters=PLAIN | dict(partial_rotary_factor=0.5), **COMMON,
    )  # fmt: skip


def mixtral() -> PreTrainedConfig:
    """Two of five experts, their weights made to sum to one; a window."""
    return MixtralConfig(
        **SMALL, head_dim=10, rms_norm_eps=2e-4, num_local_experts=5, num_experts_per_tok=2, sliding_window=29, rope_parameters=PLAIN, **COMMON,
    )  # fmt: skip


def qwen2moe() -> PreTrainedConfig:
    """Three of seven experts, weights as they are; a shared expert of another width, with its own gate."""
    sizes = SMALL | dict(hidden_size=36)
    return Qwen2MoeConfig(
        **sizes, rms_norm_eps=2e-4, num_experts=7, num_experts_per_tok=3, moe_intermediate_size=22, shared_expert_intermediate_size=27,
        norm_topk_prob=False, tie_word_embeddings=True, rope_parameters=PLAIN, **COMMON,
    )  # fmt: skip


def qwen3moe() -> PreTrainedConfig:
    """Three of seven experts, their weights made to sum to one."""
    return Qwen3MoeConfig(
        **SMALL, head_dim=16, rms_norm_eps=2e-4, num_experts=7, num_experts_per_tok=3, moe_intermediate_size=22, norm_topk_prob=True,
        tie_word_embeddings=True, rope_parameters=PLAIN, **COMMON,
    )  # fmt: skip


def olmoe() -> PreTrainedConfig:
    """Queries and keys normalised over all heads; three of seven experts, weights as they are."""
    sizes = SMALL | dict(hidden_size=36)
    return OlmoeConfig(
        **sizes, rms_norm_eps=2e-4, num_experts=7, num_experts_per_tok=3, norm_topk_prob=False, tie_word_embeddings=True,
        rope_parameters=PLAIN, pad_token_id=0, **COMMON,
    )  # fmt: skip


def granitemoe() -> PreTrainedConfig:
    """Four scales; softmax over the chosen experts; a shared one without a gate."""
    sizes = SMALL | dict(hidden_size=36)
    scales = dict(embedding_multiplier=0.6, logits_scaling=0.7, residual_multiplier=0.8, attention_multiplier=0.2)
    return GraniteMoeSharedConfig(
        **sizes, rms_norm_eps=2e-4, num_local_experts=5, num_experts_per_tok=2, shared_intermediate_size=27, tie_word_embeddings=True,
        rope_parameters=PLAIN, **scales, **COMMON,
    )  # fmt: skip


def phimoe() -> PreTrainedConfig:
    """Layer norms, biases, a sparse mixer."""
    sizes = SMALL | dict(hidden_size=36)
    return PhimoeConfig(
        **sizes, rms_norm_eps=2e-4, num_local_experts=5, num_experts_per_tok=2, router_jitter_noise=0.01, attention_bias=True, lm_head_bias=True,
        sliding_window=27, rope_parameters=PLAIN, **COMMON,
    )  # fmt: skip


def gpt_oss() -> PreTrainedConfig:
    """Sinks, biases everywhere, a window in every other layer, stretched positions, clamped gates."""
    rope = dict(
        rope_type="yarn", rope_theta=1000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=64, truncate=False,
    )  # fmt: skip
    return GptOssConfig(
        **SMALL, head_dim=16, rms_norm_eps=2e-4, num_local_experts=5, num_experts_per_tok=2, sliding_window=23, pad_token_id=0,
        rope_parameters=rope, **COMMON,
    )  # fmt: skip


def llama4() -> PreTrainedConfig:
    """Chunks shorter than a block, a fourth layer that sees all and does not rotate, experts in every other layer."""
    common = COMMON | dict(num_hidden_layers=4)
    scaling = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
    return Llama4TextConfig(
        **SMALL, head_dim=12, rms_norm_eps=2e-4, intermediate_size_mlp=44, num_local_experts=5, num_experts_per_tok=2, interleave_moe_layer_step=2,
        attention_chunk_size=27, floor_scale=9, attn_scale=0.3, tie_word_embeddings=True, pad_token_id=0,
        rope_parameters=scaling | dict(original_max_position_embeddings=64), **common,
    )  # fmt: skip


def olmo3() -> PreTrainedConfig:
    """An OLMo 2 with windows in three of four layers; the others are stretched."""
    rope = dict(
        full_attention=dict(rope_type="yarn", rope_theta=1000.0, factor=8.0, original_max_position_embeddings=64),
        sliding_attention=dict(rope_type="default", rope_theta=1000.0),
    )
    common = COMMON | dict(num_hidden_layers=4)
    return Olmo3Config(
        **SMALL, head_dim=16, rms_norm_eps=2e-4, tie_word_embeddings=True, pad_token_id=0, sliding_window=23, rope_parameters=rope, **common,
    )  # fmt: skip


LATENT = dict(kv_lora_rank=22, qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=9)


def deepseek2(lite: bool = False) -> PreTrainedConfig:
    """Latents; a first layer without experts; two shared ones; experts in groups and queries made of few numbers, unless it is the light one."""
    own = dict(q_lora_rank=None) if lite else dict(q_lora_rank=14, topk_method="group_limited_greedy", n_group=3, topk_group=2)
    return DeepseekV2Config(
        **SMALL | dict(hidden_size=36, num_key_value_heads=6), **LATENT, rms_norm_eps=2e-4, first_k_dense_replace=1, n_routed_experts=6, num_experts_per_tok=3,
        n_shared_experts=2, moe_intermediate_size=22, routed_scaling_factor=1.3, tie_word_embeddings=lite, rope_parameters=PLAIN, pad_token_id=0, **own, **COMMON,
    )  # fmt: skip


def deepseek3() -> PreTrainedConfig:
    """Sigmoids with a bias that chooses and does not weigh; four groups of two; all of a head grows with stretching."""
    rope = dict(
        rope_type="yarn", rope_theta=1000.0, factor=8.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1, mscale=0.7, mscale_all_dim=0.7,
    )  # fmt: skip
    return DeepseekV3Config(
        **SMALL | dict(num_key_value_heads=6), **LATENT, q_lora_rank=14, rms_norm_eps=2e-4, first_k_dense_replace=1, n_routed_experts=8,
        num_experts_per_tok=3, n_group=4, topk_group=2, n_shared_experts=1, moe_intermediate_size=22, routed_scaling_factor=1.7, norm_topk_prob=True,
        tie_word_embeddings=False, rope_parameters=rope, pad_token_id=0, **COMMON,
    )  # fmt: skip


def random_model(family: Family) -> PreTrainedModel:
    """The family's model in float32, every parameter random: nothing is one or zero that could be left out unnoticed."""
    generator = torch.Generator().manual_seed(family.seed)
    model = AutoModelForCausalLM.from_config(family.config, dtype=torch.float32, experts_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(scaled(name, noise) if not family.seeks_traps else adjusted(family, name, scaled(name, noise)))
        for name, buffer in choice_biases(model):
            buffer.copy_(scaled(name, torch.randn(buffer.shape, generator=generator)))
    return model


def choice_biases(model: PreTrainedModel):
    """What DeepSeek-V3 adds to the scores of experts: no parameters, but of its files."""
    return [(name, buffer) for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]


def adjusted(family: Family, name: str, weight: torch.Tensor) -> torch.Tensor:
    """Wider logits, so that greedy steps have no near ties; and what Gemma adds to its norms and multiplies its embedding by, undone."""
    if name.endswith(("model.norm.weight", "final_layernorm.weight")):
        weight = 4 * weight
    if family.name == "gemma3n" and "q_norm" in name:
        return 0.3 * weight  # scores are not scaled
    if "embed_tokens_per_layer" in name:
        return weight * math.sqrt(family.config.num_hidden_layers)
    if "gemma" in family.name and "norm" in name:
        return weight if family.name == "gemma3n" else weight - 1
    return weight / math.sqrt(weight.shape[-1]) if "gemma" in family.name and "embed" in name else weight


def scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Unit noise at the scale of its role: activations stay near one, attention is peaked, logits spread over about +-10."""
    if name.endswith("bias"):
        return 0.3 * noise
    if "norm" in name or "output_scale" in name:
        return 1 + 0.3 * noise
    gain = {"qkv_proj": 1.2, "dense": 1.5, "q_proj": 1.2, "k_proj": 1.2, "o_proj": 1.5, "down_proj": 1.5, "lm_head": 1.5, "embed_tokens": 1.5, "modality_router": 20, "coefs": 0.5}
    return noise * next((g for key, g in gain.items() if key in name), 1.0) / math.sqrt(noise.shape[-1])
