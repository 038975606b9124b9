"""Describes the Hugging Face directory of a golden model: its config.json, and how each of its tensors follows from one of the GGUF file.

The weights are in the repository once, as GGUF. `NAME.hf.json` has `config`, as `save_pretrained` writes it, and `tensors`: by their names in
model.safetensors, `gguf` (the name there), `shape`, and what llama.cpp's converter did to it: `head_dim` where it made neighbours of the rotated
rows, `added` where it added a number, `part` where it made one tensor of several.
"""

import json
import tempfile
from pathlib import Path

from safetensors import safe_open
from transformers import PreTrainedConfig, PreTrainedModel

from converter import PERMUTED, STACKED, adds_one, gguf_name, head_dim


def write_directory(model: PreTrainedModel, path: Path) -> None:
    """Writes the description of `model` to `path`."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        with safe_open(Path(folder) / "model.safetensors", "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    tensors = {name: tensor(model.config, name, shape) for name, shape in shapes.items()}
    path.write_text(json.dumps({"config": config, "tensors": tensors}, separators=(",", ":")) + "\n")


def tensor(config: PreTrainedConfig, name: str, shape: list[int]) -> dict:
    """Where the tensor called `name` is in the GGUF file, and what became of it."""
    entry = {"gguf": gguf_name(config, name), "shape": shape}
    if config.model_type in PERMUTED and ("q_proj" in name or "k_proj" in name):
        entry["head_dim"] = head_dim(config)
    if adds_one(config) and "norm" in name:
        entry["added"] = 1
    if name.startswith(tuple(STACKED)):
        entry["part"] = int(name.rsplit(".", 2)[1])
    return entry
