#!/usr/bin/env python3
"""The same GGUF file through libinference and through llama.cpp: tokens, logits at every position, greedy continuation.

    python3 tools/compare_llama_cpp.py MODEL.gguf [--library libinference.so] [--text FILE | --random N] [--kv f32] [--backend cpu]
        [--reference FLOAT.gguf]

With a reference, the same weights as float32, it also prints how far each of the two is from what llama.cpp computes with that.

Used by hand when a family or a storage type is new; not part of the tests. Needs `pip install llama-cpp-python numpy`.
"""

import argparse
import sys
from pathlib import Path

import llama_cpp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "bindings/python"))
import inference  # noqa: E402

TEXT = """Once upon a time, in a town by the sea, a baker named Ada sold 12 kinds of bread. "Which one is best?" asked the
stranger; she laughed: "The one you can't afford!" He'd walked for 3 days - through snow, naïve as ever - and paid in gold."""
KV_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}  # ggml's numbers


class Ours:
    """A session of libinference."""

    def __init__(self, model: Path, options: dict):
        self.model = inference.load(model, **options)
        self.session = self.model.session()

    def tokenize(self, text: bytes) -> list[int]:
        return self.model.tokenize(text)

    def next_logits(self, token: int) -> np.ndarray:
        """`(n_vocab,)` after `token` was added."""
        self.session.append([token])
        self.session.step(flags=inference.STEP_IGNORE_EOG)
        return np.frombuffer(self.session.logits(), np.float32)


class Theirs:
    """A context of llama.cpp."""

    def __init__(self, model: Path, n_ctx: int, kv: int):
        self.llama = llama_cpp.Llama(str(model), n_ctx=n_ctx, n_gpu_layers=0, logits_all=True, verbose=False, type_k=kv, type_v=kv)

    def tokenize(self, text: bytes) -> list[int]:
        return self.llama.tokenize(text, add_bos=True, special=False)

    def next_logits(self, token: int) -> np.ndarray:
        self.llama.eval([token])
        return self.llama.scores[self.llama.n_tokens - 1].copy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence_of(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats at each position; both are log probabilities `(n, n_vocab)`."""
    return (np.exp(p) * (p - q)).sum(-1)


def agreement_of(a: np.ndarray, b: np.ndarray) -> str:
    """How often both have the same best token, at all positions and where the best of `b` leads by more than the two differ."""
    same = a.argmax(-1) == b.argmax(-1)
    second, first = np.partition(b, -2, -1)[:, -2:].T
    clear = first - second > np.abs(a - b).max(-1)
    return f"{same.mean():.2%}, where the margin exceeds the difference {same[clear].mean():.2%} of {clear.sum()}"


def compare_with_reference(a: np.ndarray, b: np.ndarray, reference: np.ndarray) -> None:
    """Prints how far both are from the logits of the same weights as float32."""
    p = log_softmax(reference)
    for name, logits in (("ours", a), ("llama.cpp", b)):
        divergence = divergence_of(p, log_softmax(logits))
        print(f"KL(float32 || {name}): mean {divergence.mean():.3e}, worst {divergence.max():.3e}; top-1 {agreement_of(logits, reference)}")


def compare(ours: Ours, theirs: Theirs, tokens: list[int], reference: Theirs | None) -> None:
    """Feeds `tokens` to both and prints how far their predictions are apart."""
    a = np.array([ours.next_logits(t) for t in tokens])  # (n, n_vocab)
    b = np.array([theirs.next_logits(t) for t in tokens])
    if reference:
        compare_with_reference(a, b, np.array([reference.next_logits(t) for t in tokens]))
    p, q = log_softmax(b), log_softmax(a)
    divergence = divergence_of(p, q)
    perplexity = [np.exp(-x[np.arange(len(tokens) - 1), tokens[1:]].mean()) for x in (q, p)]
    print(f"{len(tokens)} positions: largest difference of a logit {np.abs(a - b).max():.2e}, of {np.abs(b).max():.1f}")
    print(f"KL(llama.cpp || ours): mean {divergence.mean():.2e}, worst {divergence.max():.2e} nats; top-1 {agreement_of(a, b)}")
    print(f"perplexity: ours {perplexity[0]:.4f}, llama.cpp {perplexity[1]:.4f}")
    print(f"greedy: first {continue_both(ours, theirs, a[-1], b[-1], 64)} of 64 tokens are the same")


def continue_both(ours: Ours, theirs: Theirs, a: np.ndarray, b: np.ndarray, n: int) -> int:
    """How many greedy tokens agree."""
    for i in range(n):
        if a.argmax() != b.argmax():
            return i
        a, b = ours.next_logits(int(a.argmax())), theirs.next_logits(int(b.argmax()))
    return n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--library", type=Path, default=Path(__file__).parents[1] / "target/release/libinference.so")
    parser.add_argument("--text", type=Path, help="what to predict; default: a few sentences")
    parser.add_argument("--random", type=int, metavar="N", help="N random tokens instead: for models of random weights")
    parser.add_argument("--kv", choices=KV_TYPES, default="f32")
    parser.add_argument("--reference", type=Path, help="the same weights as float32")
    parser.add_argument("--backend", choices=["cpu", "candle"], default="cpu")
    arguments = parser.parse_args()
    text = arguments.text.read_bytes() if arguments.text else TEXT.encode()
    n_ctx = (arguments.random or len(text)) + 128
    inference.use(arguments.library)
    ours = Ours(arguments.model, {"n_ctx": n_ctx, "kv_type": arguments.kv, "backend": arguments.backend})
    theirs = Theirs(arguments.model, n_ctx, KV_TYPES[arguments.kv])
    tokens = theirs.tokenize(text)
    print(f"tokens of the text: {'the same' if ours.tokenize(text) == tokens else 'DIFFERENT'} ({len(tokens)})")
    if arguments.random:
        tokens = np.random.default_rng(0).integers(0, theirs.llama.n_vocab(), arguments.random).tolist()
    reference = Theirs(arguments.reference, n_ctx, KV_TYPES["f32"]) if arguments.reference else None
    compare(ours, theirs, tokens, reference)


if __name__ == "__main__":
    main()
