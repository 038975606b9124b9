"""Writes a `transformers` model as GGUF (F32) with the names, keys and row order that llama.cpp's converter gives it."""

import math
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from experts import add_experts, expert_tensors
from families import Family, choice_biases
from tokenizers_tiny import add_tokenizer

ARCHITECTURES = {
    "mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "gemma3n_text": "gemma3n", "phi": "phi2", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
    "granitemoeshared": "granitemoe", "gpt_oss": "gpt-oss", "olmo3": "olmo2", "llama4_text": "llama4",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2",
}  # fmt: skip
# Their converters make neighbours of the rotated pairs.
PERMUTED = ("llama", "mistral", "mixtral", "smollm3", "granite", "granitemoe", "granitemoeshared")
TOP_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.final_layernorm": "output_norm", "lm_head": "output",
    "model.embed_tokens_per_layer": "per_layer_token_embd", "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
}  # fmt: skip
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.sinks": "attn_sinks",
    "mlp.gate_proj": "ffn_gate",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
    "self_attn.dense": "attn_output",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    "altup.correct_output_scale": "altup_correct_scale",
    "altup.correction_coefs": "altup_correct_coef",
    "altup.prediction_coefs": "altup_predict_coef",
    "altup.modality_router": "altup_router",
    "altup.router_norm": "altup_router_norm",
    "laurel.linear_left": "laurel_l",
    "laurel.linear_right": "laurel_r",
    "laurel.post_laurel_norm": "laurel_post_norm",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
}
# Several matrices that become one tensor.
STACKED = {"model.altup_projections": "altup_proj", "model.altup_unembed_projections": "altup_unembd_proj"}
# Parameters that are no `weight` of a module.
BARE = ("sinks", "output_scale")
# Where the norm in front of the feed-forward has another name.
SANDWICHED = LAYER_NAMES | {"post_attention_layernorm": "post_attention_norm"}


def layer_names(config: PreTrainedConfig) -> dict[str, str]:
    """What the family's tensors are called."""
    return SANDWICHED if config.model_type in ("gemma2", "gemma3_text", "gemma3n_text", "olmo2", "olmo3", "gpt_oss") else LAYER_NAMES


def adds_one(config: PreTrainedConfig) -> bool:
    """Whether the converter adds 1 to the weights of norms."""
    return "gemma" in config.model_type and "gemma3n" not in config.model_type


def write_gguf(family: Family, model: PreTrainedModel, path: Path) -> None:
    """Writes `model` to `path`."""
    config = model.config
    writer = gguf.GGUFWriter(path, ARCHITECTURES.get(config.model_type, config.model_type))
    writer.add_name(f"golden {family.name}")
    add_config(writer, config, family.minimal, family.is_old)
    add_tokenizer(writer, family.tokenizer, config.vocab_size)
    for name, tensor in tensors(config, model, family.is_old):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_config(writer: gguf.GGUFWriter, config: PreTrainedConfig, minimal: bool, is_old: bool) -> None:
    """The keys of the architecture; without those that a reader can derive if `minimal`."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size_mlp", config.intermediate_size))
    writer.add_head_count(config.num_attention_heads)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", None) or config.norm_epsilon)
    if minimal:
        return
    has_latents = hasattr(config, "kv_lora_rank")
    writer.add_head_count_kv(1 if has_latents and not is_old else config.num_key_value_heads)
    add_rope(writer, config)
    add_traits(writer, config)
    add_experts(writer, config)
    if has_latents:
        add_latents(writer, config, is_old)
    else:
        writer.add_key_length(head_dim(config))
        writer.add_value_length(head_dim(config))
    writer.add_vocab_size(config.vocab_size)


def add_latents(writer: gguf.GGUFWriter, config: PreTrainedConfig, is_old: bool) -> None:
    """The sizes of latents and of the heads made of them."""
    writer.add_kv_lora_rank(config.kv_lora_rank)
    if config.q_lora_rank:
        writer.add_q_lora_rank(config.q_lora_rank)
    key_dim = config.qk_nope_head_dim + config.qk_rope_head_dim
    if is_old:
        writer.add_key_length(key_dim)
        writer.add_value_length(config.v_head_dim)
        return
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(key_dim)
    writer.add_value_length_mla(config.v_head_dim)


def add_rope(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """How positions rotate."""
    rope = config.rope_parameters
    if "full_attention" in rope:
        if config.model_type != "olmo3":
            writer.add_float32(f"{writer.arch}.rope.freq_base_swa", rope["sliding_attention"]["rope_theta"])
        rope = rope["full_attention"]
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(n_rot(config))
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("mscale_all_dim"):
        writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    if rope["rope_type"] in ("yarn", "longrope"):
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "longrope":
        ratio = config.max_position_embeddings / rope["original_max_position_embeddings"]
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(ratio) / math.log(rope["original_max_position_embeddings"])))


def add_traits(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """What only some families have."""
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
        if len(set(config.layer_types or [])) > 1 if hasattr(config, "layer_types") else False:
            writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.layer_types])
    if getattr(config, "query_pre_attn_scalar", None):
        writer.add_attention_scale(config.query_pre_attn_scalar**-0.5)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if config.model_type == "gemma3n_text":
        add_streams(writer, config)
    if config.model_type == "llama4_text":
        writer.add_sliding_window(config.attention_chunk_size)
        writer.add_attn_temperature_length(config.floor_scale)
        writer.add_attn_temperature_scale(config.attn_scale)
    if config.model_type.startswith("granite"):
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)


def add_streams(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """What Gemma 3n says of its residual streams, shared keys and sparse feed-forwards."""
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_altup_active_idx(config.altup_active_idx)
    writer.add_altup_num_inputs(config.altup_num_inputs)
    writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
    writer.add_shared_kv_layers(config.num_kv_shared_layers)
    parts = torch.tensor(config.activation_sparsity_pattern, dtype=torch.float32)
    writer.add_activation_sparsity_scale(torch.distributions.normal.Normal(0, 1).icdf(parts).tolist())


def n_rot(config: PreTrainedConfig) -> int:
    """Elements of a head that rotate."""
    return int(head_dim(config) * config.rope_parameters.get("partial_rotary_factor", 1.0))


def tensors(config: PreTrainedConfig, model: PreTrainedModel, is_old: bool = False):
    """`(GGUF name, array)` of every tensor; the array is `(n_out, n_in)` or `(n,)`."""
    if config.rope_parameters.get("rope_type") == "llama3":
        yield "rope_freqs.weight", llama3_rope_factors(config)
    if config.rope_parameters.get("rope_type") == "longrope":
        yield "rope_factors_long.weight", np.array(config.rope_parameters["long_factor"], np.float32)
        yield "rope_factors_short.weight", np.array(config.rope_parameters["short_factor"], np.float32)
    for module, stacked in STACKED.items():
        if parts := [p.detach().numpy() for name, p in model.named_parameters() if name.startswith(f"{module}.")]:
            yield f"{stacked}.weight", np.stack(parts)
    for name, parameter in [*model.named_parameters(), *choice_biases(model)]:
        if name.startswith(tuple(STACKED)):
            continue
        array = parameter.detach().numpy() + np.float32(adds_one(config) and "norm" in name)
        if ".layers." in name:
            _, _, layer, role = name.split(".", 3)
            if experts := list(expert_tensors(config, role, array)):
                yield from ((f"blk.{layer}.{part}", array) for part, array in experts)
                continue
            if role == "self_attn.kv_b_proj.weight" and not is_old:
                yield from ((f"blk.{layer}.{part}", array) for part, array in latent_tensors(config, array))
                continue
        yield gguf_name(config, name), reordered(config, name, array)


def latent_tensors(config: PreTrainedConfig, array: np.ndarray):
    """The matrices that take a head's query to the latents, and latents to a head's value."""
    heads = array.reshape(config.num_attention_heads, -1, config.kv_lora_rank)  # (heads, key and value rows, rank)
    keys, values = np.split(heads, [config.qk_nope_head_dim], axis=1)
    yield "attn_k_b.weight", np.ascontiguousarray(keys.swapaxes(1, 2))
    yield "attn_v_b.weight", np.ascontiguousarray(values)


def gguf_name(config: PreTrainedConfig, name: str) -> str:
    """What llama.cpp's converter calls the parameter `name`."""
    stem, kind = (name, "weight") if name.endswith(BARE) else name.rsplit(".", 1)
    if (stacked := stem.rpartition(".")[0]) in STACKED:
        return f"{STACKED[stacked]}.{kind}"
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.{kind}"
    _, _, layer, role = stem.split(".", 3)
    return f"blk.{layer}.{layer_names(config)[role]}.{kind}"


def reordered(config: PreTrainedConfig, name: str, array: np.ndarray) -> np.ndarray:
    """Rows of a llama's Q and K as GGUF has them: the rotated pairs `(i, i + d/2)` become neighbours `(2i, 2i + 1)`."""
    role = name.rsplit(".", 2)[-2]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(role)
    if config.model_type not in PERMUTED or heads is None:
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
