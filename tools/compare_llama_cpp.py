#!/usr/bin/env python3
"""The same GGUF file through libinference and through llama.cpp: tokens, logits at every position, greedy continuation.

    python3 tools/compare_llama_cpp.py MODEL.gguf [--library libinference.so] [--text FILE | --random N] [--kv f32] [--backend cpu]

Used by hand when a family or a storage type is new; not part of the tests. Needs `pip install llama-cpp-python numpy`.
"""

import argparse
import ctypes
import json
from pathlib import Path

import llama_cpp
import numpy as np

TEXT = """Once upon a time, in a town by the sea, a baker named Ada sold 12 kinds of bread. "Which one is best?" asked the
stranger; she laughed: "The one you can't afford!" He'd walked for 3 days - through snow, naïve as ever - and paid in gold."""
KV_TYPES = {"f32": 0, "f16": 1}  # ggml's numbers
ADD_SPECIAL = 1
IGNORE_END = 1
WAIT_FOREVER = -1


class Error(ctypes.Structure):
    _fields_ = [("detail", ctypes.c_int64 * 2), ("status", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("message", ctypes.c_char * 488)]


class Step(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("token", ctypes.c_int32),
        ("prefill_done", ctypes.c_uint32),
        ("prefill_total", ctypes.c_uint32),
        ("logprob", ctypes.c_float),
    ]


class Ours:
    """A session of libinference through its C ABI."""

    def __init__(self, library: Path, model: Path, options: dict):
        self.library = ctypes.CDLL(str(library))
        self.runtime, self.load, self.model, self.session = (ctypes.c_void_p() for _ in range(4))
        path, text = str(model).encode(), json.dumps(options).encode()
        load = (path, ctypes.c_size_t(len(path)), text, ctypes.c_size_t(len(text)), ctypes.byref(self.load))
        self.call("runtime_create", None, ctypes.byref(self.runtime))
        self.call("load_start_path", self.runtime, *load)
        self.call("load_wait", self.load, WAIT_FOREVER, ctypes.byref(ctypes.c_float()), ctypes.byref(self.model))
        self.call("session_create", self.model, None, ctypes.byref(self.session))

    def call(self, name: str, *arguments) -> None:
        """Calls `inf_<name>` and raises what it reports."""
        error = Error()
        if getattr(self.library, f"inf_{name}")(*arguments, ctypes.byref(error)):
            raise RuntimeError(f"inf_{name}: {error.message.decode()}")

    def tokenize(self, text: bytes) -> list[int]:
        tokens, n = (ctypes.c_int32 * (len(text) + 8))(), ctypes.c_size_t()
        arguments = (ctypes.c_size_t(len(text)), ADD_SPECIAL, tokens, ctypes.c_size_t(len(tokens)), ctypes.byref(n))
        self.call("tokenize", self.model, text, *arguments)
        return list(tokens[: n.value])

    def next_logits(self, token: int) -> np.ndarray:
        """`(n_vocab,)` after `token` was added."""
        self.call("session_append", self.session, (ctypes.c_int32 * 1)(token), ctypes.c_size_t(1))
        step = Step(ctypes.sizeof(Step))
        self.call("session_step", self.session, None, 0, IGNORE_END, ctypes.byref(step))
        logits, n = ctypes.POINTER(ctypes.c_float)(), ctypes.c_size_t()
        self.call("session_logits", self.session, ctypes.byref(logits), ctypes.byref(n))
        return np.ctypeslib.as_array(logits, (n.value,)).copy()


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


def compare(ours: Ours, theirs: Theirs, tokens: list[int]) -> None:
    """Feeds `tokens` to both and prints how far their predictions are apart."""
    a = np.array([ours.next_logits(t) for t in tokens])  # (n, n_vocab)
    b = np.array([theirs.next_logits(t) for t in tokens])
    p, q = log_softmax(b), log_softmax(a)
    divergence = (np.exp(p) * (p - q)).sum(-1)
    agreement = (a.argmax(-1) == b.argmax(-1)).mean()
    perplexity = [np.exp(-x[np.arange(len(tokens) - 1), tokens[1:]].mean()) for x in (q, p)]
    print(f"{len(tokens)} positions: largest difference of a logit {np.abs(a - b).max():.2e}, of {np.abs(b).max():.1f}")
    print(f"KL(llama.cpp || ours): mean {divergence.mean():.2e}, worst {divergence.max():.2e} nats; top-1 agreement {agreement:.2%}")
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
    parser.add_argument("--backend", choices=["cpu", "candle"], default="cpu")
    arguments = parser.parse_args()
    text = arguments.text.read_bytes() if arguments.text else TEXT.encode()
    n_ctx = (arguments.random or len(text)) + 128
    ours = Ours(arguments.library, arguments.model, {"n_ctx": n_ctx, "kv_type": arguments.kv, "backend": arguments.backend})
    theirs = Theirs(arguments.model, n_ctx, KV_TYPES[arguments.kv])
    tokens = theirs.tokenize(text)
    print(f"tokens of the text: {'the same' if ours.tokenize(text) == tokens else 'DIFFERENT'} ({len(tokens)})")
    if arguments.random:
        tokens = np.random.default_rng(0).integers(0, theirs.llama.n_vocab(), arguments.random).tolist()
    compare(ours, theirs, tokens)


if __name__ == "__main__":
    main()
