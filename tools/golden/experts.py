"""Mixtures of experts as llama.cpp's converter writes them: one tensor for all experts of a layer, gate and up apart."""

import gguf
import numpy as np
from transformers import PreTrainedConfig

ROUTERS = ("mlp.gate", "mlp.router", "block_sparse_moe.router", "feed_forward.router")
SHARED = {
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "feed_forward.shared_expert.gate_proj": "ffn_gate_shexp",
    "feed_forward.shared_expert.up_proj": "ffn_up_shexp",
    "feed_forward.shared_expert.down_proj": "ffn_down_shexp",
    "shared_mlp.output_linear": "ffn_down_shexp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
# Their experts are stored the other way round, and gate and up take turns.
TRANSPOSED = ("gpt_oss", "llama4_text")
INTERLEAVED = ("gpt_oss",)


def add_experts(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """The keys of a mixture, if `config` is one."""
    if not n_experts(config):
        return
    writer.add_expert_count(n_experts(config))
    writer.add_expert_used_count(config.num_experts_per_tok)
    if hasattr(config, "n_routed_experts"):
        add_routing(writer, config)
    if hasattr(config, "moe_intermediate_size"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if config.model_type == "llama4_text":
        writer.add_expert_feed_forward_length(config.intermediate_size)
        writer.add_interleave_moe_layer_step(config.interleave_moe_layer_step)
    shared = getattr(config, "shared_expert_intermediate_size", None) or getattr(config, "shared_intermediate_size", None)
    if shared:
        writer.add_expert_shared_feed_forward_length(shared)


def n_experts(config: PreTrainedConfig) -> int:
    """Experts of a layer; 0 for a model without."""
    return getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None) or getattr(config, "n_routed_experts", None) or 0


def add_routing(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """What DeepSeek's files say about their experts."""
    sigmoid = config.model_type == "deepseek_v3"
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(sigmoid and config.norm_topk_prob)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if sigmoid else gguf.ExpertGatingFuncType.SOFTMAX)
    if config.n_group:
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)


def expert_tensors(config: PreTrainedConfig, role: str, array: np.ndarray):
    """`(name without its layer, array)` of what becomes of a layer's tensor `role`; nothing if it belongs to no mixture."""
    stem, _, kind = role.rpartition(".")
    if kind == "e_score_correction_bias":
        yield "exp_probs_b.bias", array
    elif stem in ROUTERS:
        yield f"ffn_gate_inp.{kind}", array
    elif stem in SHARED:
        yield f"{SHARED[stem]}.{kind}", array.reshape(-1) if stem.endswith("_gate") else array
    elif stem == "shared_mlp.input_linear":
        yield from gate_and_up("ffn_{}_shexp.weight", array, False)
    elif stem.endswith(".experts"):
        weight = not kind.endswith("_bias")
        if weight and config.model_type in TRANSPOSED:
            array = array.swapaxes(1, 2)
        suffix = "weight" if weight else "bias"
        if kind.startswith("gate_up"):
            yield from gate_and_up(f"ffn_{{}}_exps.{suffix}", array, config.model_type in INTERLEAVED)
        else:
            yield f"ffn_down_exps.{suffix}", np.ascontiguousarray(array)


def gate_and_up(name: str, array: np.ndarray, interleaved: bool):
    """The halves of a tensor that holds gate and up in its second dimension (its first one, if it belongs to one expert)."""
    axis = 0 if "shexp" in name else 1
    n = array.shape[axis]
    halves = (slice(0, n, 2), slice(1, n, 2)) if interleaved else (slice(0, n // 2), slice(n // 2, n))
    for part, half in zip(("gate", "up"), halves):
        yield name.format(part), np.ascontiguousarray(array[half] if axis == 0 else array[:, half])
