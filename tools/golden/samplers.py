"""What `transformers` and llama.cpp leave of logits, stage by stage and in chains: tests/data/samplers.json.

    .venv/bin/pip install -r tools/golden/requirements.txt llama-cpp-python
    .venv/bin/python tools/golden/samplers.py

Each case has the ids that are left, in order, and their probabilities. The stages' numbers are those of `Stage` in src/engine/sampler.
"""

import ctypes
import json
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from transformers.generation import logits_process as hf

# Less is as good as nothing: a cold temperature leaves any token, but some with numbers that underflow.
LEAST = 1e-12
OUT = Path(__file__).parents[2] / "tests/data/samplers.json"

# What both know.
BOTH = [
    [["temperature", 0.6]], [["temperature", 1.7]], [["top_k", 1]], [["top_k", 5]], [["top_k", 40]], [["top_p", 0.5]], [["top_p", 0.92]],
    [["min_p", 0.05]], [["min_p", 0.3]], [["typical_p", 0.4]], [["typical_p", 0.9]], [["penalties", -1, 1.3, 0.0, 0.0]],
    [["temperature", 0.8], ["top_k", 12], ["top_p", 0.9], ["min_p", 0.1]],
    [["penalties", -1, 1.2, 0.0, 0.0], ["top_k", 20], ["typical_p", 0.7], ["temperature", 1.3]],
]  # fmt: skip

# What llama.cpp alone knows.
LLAMA = [
    [["penalties", -1, 1.0, 0.4, 0.0]], [["penalties", -1, 1.0, 0.0, 0.7]], [["penalties", 8, 1.15, 0.2, 0.3]], [["penalties", -1, 1.5, -0.2, -0.1]],
    [["dynamic_temperature", 0.5, 1.5, 1.0]], [["dynamic_temperature", 0.0, 2.0, 2.5]], [["top_n_sigma", 0.5]], [["top_n_sigma", 1.5]],
    [["xtc", 1.0, 0.1]], [["xtc", 1.0, 0.3]], [["xtc", 1.0, 0.6]], [["xtc", 0.0, 0.1]], [["mirostat", 2.0, 0.1]], [["mirostat", 4.0, 0.1]],
    [["dry", 0.8, 1.75, 2, -1]], [["dry", 1.5, 1.2, 1, -1]], [["dry", 0.8, 1.75, 3, 12]], [["bias", [0, 2.5], [3, -1.0], [7, None]]],
    [["penalties", 64, 1.1, 0.1, 0.1], ["top_k", 40], ["top_p", 0.95], ["min_p", 0.05], ["temperature", 0.8]],
    [["bias", [1, 3.0]], ["dry", 0.8, 1.75, 2, -1], ["top_k", 25], ["typical_p", 0.8], ["temperature", 1.4], ["mirostat", 3.0, 0.1]],
]  # fmt: skip


def by_transformers(logits: np.ndarray, history: list[int], stages: list) -> np.ndarray:
    scores = torch.tensor(logits, dtype=torch.float32)[None]
    for name, *numbers in stages:
        match name:
            case "temperature":
                step = hf.TemperatureLogitsWarper(numbers[0])
            case "top_k":
                step = hf.TopKLogitsWarper(numbers[0])
            case "top_p":
                step = hf.TopPLogitsWarper(numbers[0])
            case "min_p":
                step = hf.MinPLogitsWarper(numbers[0])
            case "typical_p":
                step = hf.TypicalLogitsWarper(numbers[0])
            case "penalties":
                step = hf.RepetitionPenaltyLogitsProcessor(numbers[1])
        scores = step(torch.tensor([history], dtype=torch.long), scores)
    return scores[0].numpy()


def llama_stage(n_vocab: int, name: str, numbers: list):
    last_n = lambda n: n if n >= 0 else 4096  # noqa: E731
    match name:
        case "temperature":
            return llama_cpp.llama_sampler_init_temp(numbers[0])
        case "dynamic_temperature":
            low, high, exponent = numbers
            return llama_cpp.llama_sampler_init_temp_ext((low + high) / 2, (high - low) / 2, exponent)
        case "top_k":
            return llama_cpp.llama_sampler_init_top_k(numbers[0])
        case "top_p":
            return llama_cpp.llama_sampler_init_top_p(numbers[0], 1)
        case "min_p":
            return llama_cpp.llama_sampler_init_min_p(numbers[0], 1)
        case "typical_p":
            return llama_cpp.llama_sampler_init_typical(numbers[0], 1)
        case "top_n_sigma":
            return llama_cpp.llama_sampler_init_top_n_sigma(numbers[0])
        case "xtc":
            return llama_cpp.llama_sampler_init_xtc(numbers[0], numbers[1], 1, 7)
        case "mirostat":
            return llama_cpp.llama_sampler_init_mirostat_v2(7, numbers[0], numbers[1])
        case "penalties":
            return llama_cpp.llama_sampler_init_penalties(n_vocab, last_n(numbers[0]), *numbers[1:])
        case "dry":
            return llama_cpp.llama_sampler_init_dry(None, *numbers[:3], last_n(numbers[3]), None, 0)
        case "bias":
            entries = [llama_cpp.llama_logit_bias(token, -np.inf if bias is None else bias) for token, bias in numbers]
            return llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(entries), (llama_cpp.llama_logit_bias * len(entries))(*entries))


def by_llama_cpp(logits: np.ndarray, history: list[int], stages: list) -> np.ndarray:
    n = len(logits)
    data = (llama_cpp.llama_token_data * n)(*(llama_cpp.llama_token_data(i, float(x), 0.0) for i, x in enumerate(logits)))
    array = llama_cpp.llama_token_data_array(ctypes.cast(data, llama_cpp.llama_token_data_p), n, -1, False)
    for name, *numbers in stages:
        stage = llama_stage(n, name, numbers)
        for token in history:
            llama_cpp.llama_sampler_accept(stage, token)
        llama_cpp.llama_sampler_apply(stage, ctypes.byref(array))
        llama_cpp.llama_sampler_free(stage)
    left = np.full(n, -np.inf, dtype=np.float32)
    for i in range(array.size):
        left[array.data[i].id] = array.data[i].logit
    return left


def case(by: str, index: int, history: list[int], stages: list, left: np.ndarray) -> dict:
    weights = np.exp(left.astype(np.float64) - left.max())
    p = weights / weights.sum()
    kept = np.flatnonzero(p > LEAST)
    probabilities = [float(f"{x:.9g}") for x in p[kept]]
    return {"by": by, "logits": index, "history": history, "stages": stages, "kept": kept.tolist(), "probabilities": probabilities}


def main() -> None:
    rng = np.random.default_rng(5)
    all_logits = [np.round(rng.normal(0, scale, n), 4).astype(np.float32) for n, scale in [(12, 1.0), (40, 2.0), (40, 4.0), (90, 3.0)]]
    histories = [[1, 2, 3, 1, 2], [4, 4, 5, 0, 6, 4, 4, 5, 0, 7, 2, 4, 4, 5], rng.integers(0, 12, 30).tolist()]
    cases = []
    for i, logits in enumerate(all_logits):
        history = histories[i % len(histories)]
        for stages in BOTH:
            cases.append(case("transformers", i, history, stages, by_transformers(logits, history, stages)))
        for stages in BOTH + LLAMA:
            cases.append(case("llama.cpp", i, history, stages, by_llama_cpp(logits, history, stages)))
    lines = ",\n".join(json.dumps(entry) for entry in cases)
    logits = json.dumps([[float(f"{x:.9g}") for x in row] for row in all_logits])
    OUT.write_text(f'{{"logits":{logits},\n"cases":[\n{lines}\n]}}\n')
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
