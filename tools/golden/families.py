"""The tiny models that the golden data is made of: one per family, with sizes that forgive no assumption.

Odd on purpose: a vocabulary that no SIMD width divides, a feed-forward that is no multiple of 32, grouped queries 3:1, 7:1
and 5:1, `head_dim != hidden / heads` where the family has the key, an epsilon that is nobody's default.
"""

import math
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel, Qwen2Config, Qwen3Config


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


COMMON = dict(num_hidden_layers=3, max_position_embeddings=512, attn_implementation="eager", bos_token_id=1, eos_token_id=2)


def families() -> list[Family]:
    """Every family, smallest traps first."""
    return [
        Family("llama-tied", 16, llama_tied(), "spm", minimal=True),
        Family("llama-3.1", 14, llama31(), "llama-bpe"),
        Family("qwen2", 1, qwen2(), "qwen2"),
        Family("qwen3", 4, qwen3(), "qwen2"),
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


def random_model(family: Family) -> PreTrainedModel:
    """The family's model in float32, every parameter random: nothing is one or zero that could be left out unnoticed."""
    generator = torch.Generator().manual_seed(family.seed)
    model = AutoModelForCausalLM.from_config(family.config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(scaled(name, noise))
    return model


def scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Unit noise at the scale of its role: activations stay near one, attention is peaked, logits spread over about +-10."""
    if "norm" in name:
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.3 * noise
    gain = {"q_proj": 1.2, "k_proj": 1.2, "o_proj": 1.5, "down_proj": 1.5, "lm_head": 1.5, "embed_tokens": 1.5}
    return noise * next((g for key, g in gain.items() if key in name), 1.0) / math.sqrt(noise.shape[-1])
