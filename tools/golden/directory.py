"""Describes the Hugging Face directory of a golden model: its config.json, and how each of its tensors follows from those of the GGUF file.

The weights are in the repository once, as GGUF. `NAME.hf.json` has `config`, as `save_pretrained` writes it, and `tensors`: by their names in
model.safetensors, `shape` and where they are:

- `gguf`, the name there, and what llama.cpp's converter did to it: `head_dim` where it made neighbours of the rotated rows, `added` where it added a
  number; `expert` and `n_experts` where it is the part of one expert; `part` where it made one tensor of several.
- `parts`, names of tensors that became apart: of each expert, the rows of the first above those of the second, or in turn (`takes_turns`), then perhaps
  turned round (`turned`); `latents`, with the number of heads, are the keys' rows (which GGUF turns round) above the values' of each head.
"""

import json
import re
import tempfile
from pathlib import Path

from safetensors import safe_open
from transformers import PreTrainedConfig, PreTrainedModel

from converter import PERMUTED, STACKED, adds_one, gguf_name, head_dim
from experts import ROUTERS, SHARED, n_experts
from families import Family

EXPERT = re.compile(r"(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight")
PROJECTIONS = dict(gate_proj="gate", w1="gate", up_proj="up", w3="up", down_proj="down", w2="down")
EXPERT_PARTS = ["ffn_gate_exps", "ffn_up_exps"]
# By the tensor's name behind its layer.
TOGETHER = {
    "block_sparse_moe.input_linear.weight": dict(parts=EXPERT_PARTS),
    "block_sparse_moe.output_linear.weight": dict(parts=["ffn_down_exps"]),
    "shared_mlp.input_linear.weight": dict(parts=["ffn_gate_shexp", "ffn_up_shexp"]),
    "mlp.experts.gate_up_proj": dict(parts=EXPERT_PARTS, takes_turns=True, turned=True),
    "mlp.experts.gate_up_proj_bias": dict(parts=EXPERT_PARTS, takes_turns=True),
    "mlp.experts.down_proj": dict(parts=["ffn_down_exps"], turned=True),
    "mlp.experts.down_proj_bias": dict(parts=["ffn_down_exps"]),
    "feed_forward.experts.gate_up_proj": dict(parts=EXPERT_PARTS, turned=True),
    "feed_forward.experts.down_proj": dict(parts=["ffn_down_exps"], turned=True),
}
OTHER_ROUTERS = ("block_sparse_moe.gate", "block_sparse_moe.router.layer")


def write_directory(family: Family, model: PreTrainedModel, path: Path) -> None:
    """Writes the description of `model` to `path`."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        with safe_open(Path(folder) / "model.safetensors", "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    tensors = {name: tensor(model.config, name, family.is_old) | {"shape": shape} for name, shape in shapes.items()}
    path.write_text(json.dumps({"config": config, "tensors": tensors}, separators=(",", ":")) + "\n")


def tensor(config: PreTrainedConfig, name: str, is_old: bool) -> dict:
    """Where the tensor called `name` is in the GGUF file, and what became of it."""
    if ".layers." in name:
        _, _, layer, role = name.split(".", 3)
        if entry := layer_tensor(config, role, is_old):
            if "parts" in entry:
                kind = "bias" if role.endswith("_bias") else "weight"
                return entry | {"parts": [f"blk.{layer}.{part}.{kind}" for part in entry["parts"]]}
            return entry | {"gguf": f"blk.{layer}.{entry['gguf']}"}
    entry = {"gguf": gguf_name(config, name)}
    if config.model_type in PERMUTED and ("q_proj" in name or "k_proj" in name):
        entry["head_dim"] = head_dim(config)
    if adds_one(config) and "norm" in name:
        entry["added"] = 1
    if name.startswith(tuple(STACKED)):
        entry["part"] = int(name.rsplit(".", 2)[1])
    return entry


def layer_tensor(config: PreTrainedConfig, role: str, is_old: bool) -> dict | None:
    """The same for a layer's tensor `role` that belongs to a mixture, or makes keys and values; names without their layer."""
    stem, _, kind = role.rpartition(".")
    if found := EXPERT.fullmatch(role):
        return dict(gguf=f"ffn_{PROJECTIONS[found[2]]}_exps.weight", expert=int(found[1]), n_experts=n_experts(config))
    if role in TOGETHER:
        return TOGETHER[role]
    if role == "self_attn.kv_b_proj.weight" and not is_old:
        return dict(parts=["attn_k_b", "attn_v_b"], latents=config.num_attention_heads)
    if role.endswith("e_score_correction_bias"):
        return dict(gguf="exp_probs_b.bias")
    if stem in ROUTERS + OTHER_ROUTERS:
        return dict(gguf=f"ffn_gate_inp.{kind}")
    return dict(gguf=f"{SHARED[stem]}.{kind}") if stem in SHARED else None
