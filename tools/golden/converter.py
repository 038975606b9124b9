"""Writes a `transformers` model as GGUF (F32) with the names, keys and row order that llama.cpp's converter gives it."""

import math
from pathlib import Path

import gguf
import numpy as np
from transformers import PreTrainedConfig, PreTrainedModel

from families import Family
from tokenizers_tiny import add_tokenizer

TOP_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(family: Family, model: PreTrainedModel, path: Path) -> None:
    """Writes `model` to `path`."""
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_name(f"golden {family.name}")
    add_config(writer, config, family.minimal)
    add_tokenizer(writer, family.tokenizer, config.vocab_size)
    for name, tensor in tensors(config, model):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_config(writer: gguf.GGUFWriter, config: PreTrainedConfig, minimal: bool) -> None:
    """The keys of the architecture; without those that a reader can derive if `minimal`."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if minimal:
        return
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_vocab_size(config.vocab_size)


def tensors(config: PreTrainedConfig, model: PreTrainedModel):
    """`(GGUF name, array)` of every tensor; the array is `(n_out, n_in)` or `(n,)`."""
    if config.rope_parameters["rope_type"] == "llama3":
        yield "rope_freqs.weight", llama3_rope_factors(config)
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy()
        stem, kind = name.rsplit(".", 1)
        if stem in TOP_NAMES:
            yield f"{TOP_NAMES[stem]}.{kind}", array
            continue
        _, _, layer, role = stem.split(".", 3)
        yield f"blk.{layer}.{LAYER_NAMES[role]}.{kind}", reordered(config, role, array)


def reordered(config: PreTrainedConfig, role: str, array: np.ndarray) -> np.ndarray:
    """Rows of a llama's Q and K as GGUF has them: the rotated pairs `(i, i + d/2)` become neighbours `(2i, 2i + 1)`."""
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}.get(role)
    if config.model_type != "llama" or heads is None:
        return array
    halves = array.reshape(heads, 2, head_dim(config) // 2, *array.shape[1:])  # (heads, half, pair, n_in)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def llama3_rope_factors(config: PreTrainedConfig) -> np.ndarray:
    """`(head_dim / 2,)`: what each rotary frequency is divided by. The formula is Meta's for Llama 3.1:
    short waves stay, waves longer than the original context are stretched by `factor`, those between are blended."""
    rope = config.rope_parameters
    context, factor, low, high = (
        rope[key] for key in ("original_max_position_embeddings", "factor", "low_freq_factor", "high_freq_factor")
    )
    dims = np.arange(0, head_dim(config), 2, dtype=np.float64)
    wavelengths = 2 * math.pi * rope["rope_theta"] ** (dims / head_dim(config))
    blend = np.clip((context / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / factor + blend)).astype(np.float32)


def head_dim(config: PreTrainedConfig) -> int:
    """Elements per head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
