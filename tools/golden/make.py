"""Makes tests/data/golden: for each family a tiny random model as GGUF, and what `transformers` computes with it in float32.

    python make.py [output folder [family ..]]

Per family: `NAME.gguf`; `NAME.json` with `prompt` (token ids) and `greedy` (the ids that follow); `NAME.logits`, the logits
at every position of the prompt, `(n_prompt, n_vocab)` little-endian float32; `NAME.hf.json`, the same model as a Hugging Face directory
(see `directory.py`).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from converter import write_gguf
from directory import write_directory
from families import Family, choice_biases, families, random_model
from numpy_model import NumpyModel

N_GREEDY = 32  # crosses the border at 128
TOLERANCE = 1e-4  # what the Rust tests allow
MIN_MARGIN = 0.02  # between the two best logits of each greedy step: far above any rounding, so that equal ids are a fair demand


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "tests/data/golden")
    folder.mkdir(parents=True, exist_ok=True)
    for family in families():
        if len(sys.argv) < 3 or family.name in sys.argv[2:]:
            make(family, folder)


def make(family: Family, folder: Path) -> None:
    """Writes and checks the files of one family."""
    model = random_model(family)
    prompt = np.random.default_rng(family.seed).integers(3, family.config.vocab_size, family.n_prompt).tolist()
    logits = full_logits(model, prompt)
    greedy, margin = greedy_with_cache(model, prompt)
    assert margin > MIN_MARGIN, f"{family.name}: two logits of a greedy step are only {margin} apart: choose another seed"

    path = folder / f"{family.name}.gguf"
    write_gguf(family, model, path)
    write_directory(family, model, folder / f"{family.name}.hf.json")
    (folder / f"{family.name}.json").write_text(json.dumps({"prompt": prompt, "greedy": greedy}) + "\n")
    logits.astype("<f4").tofile(folder / f"{family.name}.logits")

    if family.seeks_traps:
        print(f"{family.name}: |logit| <= {np.abs(logits).max():.1f}, margin {margin:.3f}")
        return check_tensors(model, prompt, logits)
    error = np.abs(NumpyModel(path).logits(prompt) - logits).max()
    assert error < TOLERANCE / 4, f"{family.name}: numpy and transformers differ by {error}"
    print(f"{family.name}: |logit| <= {np.abs(logits).max():.1f}, margin {margin:.3f}, numpy differs by {error:.1e}")
    check_sensitivity(path, prompt, logits)


@torch.no_grad()
def full_logits(model: PreTrainedModel, tokens: list[int]) -> np.ndarray:
    """`(n, n_vocab)` of one forward pass without a cache."""
    return model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()


@torch.no_grad()
def greedy_with_cache(model: PreTrainedModel, prompt: list[int]) -> tuple[list[int], float]:
    """The continuation, token by token over a KV cache, and the smallest distance between best and second best logit."""
    ids, margin, cache, tokens = [], float("inf"), None, prompt
    for _ in range(N_GREEDY):
        output = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True)
        best = output.logits[0, -1].topk(2)
        ids.append(int(best.indices[0]))
        margin = min(margin, float(best.values[0] - best.values[1]))
        cache, tokens = output.past_key_values, [ids[-1]]
    return ids, margin


@torch.no_grad()
def check_tensors(model: PreTrainedModel, prompt: list[int], logits: np.ndarray) -> None:
    """Golden data that could not fail would be worthless: each tensor, made wrong, must show."""
    for name, parameter in [*model.named_parameters(), *choice_biases(model)]:
        right = parameter.clone()
        parameter.copy_(right.flip(0 if len(right) > 1 else -1))
        change = np.abs(full_logits(model, prompt) - logits).max()
        assert change > 5 * TOLERANCE, f"{name} reversed: changes the logits by {change} only"
        parameter.copy_(right)


def check_sensitivity(path: Path, prompt: list[int], logits: np.ndarray) -> None:
    """Golden data that could not fail would be worthless: each tensor and each constant, made wrong, must show."""
    model = NumpyModel(path)
    for name, tensor in list(model.tensors.items()):
        model.tensors[name] = tensor[::-1]
        demand_change(f"{name} reversed", model, prompt, logits)
        model.tensors[name] = tensor
    for name in [n for n in model.tensors if n == "rope_freqs.weight" or n.endswith(("bias", "q_norm.weight", "k_norm.weight"))]:
        tensor = model.tensors.pop(name)
        demand_change(f"without {name}", model, prompt, logits)
        model.tensors[name] = tensor
    for attribute, wrong in [("eps", 1e-6), ("theta", 5e5), ("interleaved", not model.interleaved)]:
        right = getattr(model, attribute)
        setattr(model, attribute, wrong)
        demand_change(f"{attribute} = {wrong}", model, prompt, logits)
        setattr(model, attribute, right)


def demand_change(what: str, model: NumpyModel, prompt: list[int], logits: np.ndarray) -> None:
    """Fails if the changed `model` would still pass the Rust test."""
    change = np.abs(model.logits(prompt) - logits).max()
    assert change > 5 * TOLERANCE, f"{what}: changes the logits by {change} only"


if __name__ == "__main__":
    main()
