"""Random models of the golden families, large enough for blocks of 256 weights and quantised by llama.cpp.

    python tools/golden/large.py FOLDER Q8_0 qwen3moe [family ..]

Writes FOLDER/FAMILY.f32.gguf and FOLDER/FAMILY.gguf; then

    python tools/compare_llama_cpp.py FOLDER/FAMILY.gguf --random 128

Needs what `make.py` needs, and `llama-cpp-python`.
"""

import dataclasses
import sys
from pathlib import Path

import llama_cpp
import torch
from transformers import PreTrainedModel

from converter import write_gguf
from experts import ROUTERS
from families import Family, families, random_model

SIZES = dict(vocab_size=283, hidden_size=256, intermediate_size=512, num_attention_heads=8, num_key_value_heads=2)
# Where a configuration has them.
OTHERS = dict(head_dim=64, moe_intermediate_size=256, shared_expert_intermediate_size=512, shared_intermediate_size=512)


LATENTS = dict(kv_lora_rank=256, qk_rope_head_dim=32, qk_nope_head_dim=64, v_head_dim=64, qk_head_dim=96, head_dim=32, num_key_value_heads=8)


# llama.cpp has no windows for Mixtral, and no tied head for Qwen 2 with experts.
THEIRS = dict(sliding_window=4096, tie_word_embeddings=False)


def enlarged(family: Family) -> Family:
    """The family with sizes that blocks divide."""
    for key, value in (SIZES | OTHERS | THEIRS).items():
        if key in SIZES or getattr(family.config, key, None):
            setattr(family.config, key, value)
    if hasattr(family.config, "kv_lora_rank"):
        for key, value in LATENTS.items():
            setattr(family.config, key, value)
        family.config.q_lora_rank = family.config.q_lora_rank and 256
    return dataclasses.replace(family, minimal=False)


@torch.no_grad()
def calmed(model: PreTrainedModel) -> PreTrainedModel:
    """The model with logits and routers as trained ones have them: a standard deviation of about 3, and experts that win clearly. Golden
    models have wider logits and nearly equal experts, so that the least rounding shows; a rounding to eight bits then changes experts."""
    for name, parameter in model.named_parameters():
        if name.endswith("model.norm.weight"):
            parameter /= 3
        if name.rpartition(".")[0].endswith(ROUTERS):
            parameter *= 6
    return model


def main() -> None:
    folder, kind, *names = Path(sys.argv[1]), *sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    for family in (family for family in families() if family.name in names):
        family = enlarged(family)
        original, quantised = folder / f"{family.name}.f32.gguf", folder / f"{family.name}.gguf"
        write_gguf(family, calmed(random_model(family)), original)
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        if llama_cpp.llama_model_quantize(str(original).encode(), str(quantised).encode(), parameters):
            raise SystemExit(f"{family.name}: llama.cpp did not quantise")


if __name__ == "__main__":
    main()
