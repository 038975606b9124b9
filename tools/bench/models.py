"""Model files of real shape with random weights: the speed of a product does not depend on the values.

A few megabytes of random blocks with sane scales are repeated over every tensor, so that a file takes seconds to make and all logits
are finite. The vocabulary is made up, and as large as the real one. Used by run.py; as a program, it makes the files of `make bench-engine`
in the folder that it is given.
"""

import sys

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# Random blocks that are repeated: more than a core's caches, so that no branch predictor or cache learns them.
POOL_BYTES = 4 << 20


@dataclass(frozen=True)
class Shape:
    """The sizes of a published model. All of them tie the head to the embedding."""

    name: str
    architecture: str
    pre_tokenizer: str
    n_embd: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    n_vocab: int
    rope_base: float
    n_ctx: int
    has_bias: bool


QWEN = Shape("qwen2.5-0.5b", "qwen2", "qwen2", 896, 24, 14, 2, 64, 4864, 151936, 1e6, 32768, True)
LLAMA = Shape("llama-3.2-1b", "llama", "llama-bpe", 2048, 16, 32, 8, 64, 8192, 128256, 5e5, 131072, False)
SHAPES = {shape.name: shape for shape in (QWEN, LLAMA)}

# What llama.cpp's quantiser takes where rows are no multiple of 256.
FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}

# Tokens that a chain model says one after the other, the first behind the last again; benches/sessions/guesses.rs knows them, too.
CHAIN = range(1000, 2024)

# How much larger than what the layers add the embeddings of a chain are.
CHAIN_STD = 30.0

# The type of most matrices, and of those that the mixture gives more bits.
MIXTURES = {
    "Q4_K_M": (Type.Q4_K, Type.Q6_K),
    "Q5_K_M": (Type.Q5_K, Type.Q6_K),
    "Q6_K": (Type.Q6_K, Type.Q6_K),
    "Q4_0": (Type.Q4_0, Type.Q4_0),
    "Q8_0": (Type.Q8_0, Type.Q8_0),
    "F16": (Type.F16, Type.F16),
}


def gets_more_bits(layer: int, n_layers: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and the last eighth of the layers, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def matrix_type(mixture: str, name: str, layer: int, n_layers: int, n_cols: int) -> Type:
    """The type that llama.cpp's quantiser would choose."""
    usual, better = MIXTURES[mixture]
    if name == "token_embd" and usual not in (Type.Q8_0, Type.F16):
        chosen = Type.Q6_K  # the tied head
    elif name in ("attn_v", "ffn_down") and gets_more_bits(layer, n_layers):
        chosen = better
    else:
        chosen = usual
    return FALLBACK.get(chosen, chosen) if n_cols % 256 else chosen


def half(values: np.ndarray) -> np.ndarray:
    """The bytes of `values` as f16, `(n, 2)`."""
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def random_blocks(kind: Type, std: float, rng: np.random.Generator) -> np.ndarray:
    """Random blocks `(n, block bytes)` whose weights have about this standard deviation."""
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n = POOL_BYTES // block_bytes
    if kind == Type.F16:
        return rng.normal(0, std, n).astype("<f2").reshape(-1, 1).view(np.uint8)
    blocks = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    scale = lambda spread: half(rng.uniform(0.5, 1.5, n) * std / spread)  # spread: of the integers that the scale multiplies
    # Where a block has a minimum, it is minus half the range of its quants, so that weights centre on zero.
    if kind in (Type.Q4_0, Type.Q5_0, Type.Q8_0):
        blocks[:, :2] = scale({Type.Q4_0: 4.6, Type.Q5_0: 9.2, Type.Q8_0: 73}[kind])
    elif kind == Type.Q5_1:
        blocks[:, :2] = d = scale(9.2)
        blocks[:, 2:4] = half(d.copy().view("<f2").astype(np.float32).ravel() * -15.5)
    elif kind in (Type.Q4_K, Type.Q5_K):
        spread = {Type.Q4_K: 4.6, Type.Q5_K: 9.2}[kind]
        blocks[:, :2] = d = scale(31 * spread)  # the mean of a six-bit scale
        blocks[:, 2:4] = half(d.copy().view("<f2").astype(np.float32).ravel() * 1.6 * spread)
    elif kind == Type.Q6_K:
        blocks[:, -2:] = scale(73 * 18.5)
    else:
        raise ValueError(f"no recipe for {kind.name}")
    return blocks


class Tensors:
    """Writes tensors into a file, from one pool of random blocks per type."""

    def __init__(self, writer: gguf.GGUFWriter):
        self.writer = writer
        self.rng = np.random.default_rng(0)
        self.pools: dict[tuple[Type, int], np.ndarray] = {}

    def matrix(self, name: str, kind: Type, n_rows: int, n_cols: int) -> None:
        block_len, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        pool = self.pools.get((kind, n_cols))
        if pool is None:
            pool = self.pools[kind, n_cols] = random_blocks(kind, n_cols**-0.5, self.rng).ravel()
        data = np.resize(pool, (n_rows, n_cols // block_len * block_bytes))
        self.writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)

    def chain(self, kind: Type, n_rows: int, n_cols: int) -> None:
        """An embedding and a head in which each token of the chain is followed by the next one, whatever the layers add."""
        block_len, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = n_cols // block_len * block_bytes
        rows = np.resize(random_blocks(kind, CHAIN_STD, self.rng).ravel(), (len(CHAIN), row_bytes))
        for name, shift in (("token_embd", 0), ("output", 1)):
            data = np.resize(random_blocks(kind, n_cols**-0.5, self.rng).ravel(), (n_rows, row_bytes))
            data[CHAIN.start : CHAIN.stop] = np.roll(rows, shift, axis=0)
            self.writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)

    def vector(self, name: str, values: np.ndarray) -> None:
        self.writer.add_tensor(name, values.astype(np.float32))


def vocabulary(n_vocab: int) -> tuple[list[str], list[int], list[str]]:
    """Tokens, their types, and merges of a byte-level BPE: bytes, pairs of letters, words of four and six letters, control tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    tokens = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [(a, b) for a in letters + "Ġ" for b in letters]
    merges, fours, room = list(pairs), [], n_vocab - len(tokens) - len(control)
    words = ["".join(pair) for pair in pairs]
    fours = [(a, b) for a in words for b in words if not b.startswith("Ġ")][: room // 4]
    merges += fours
    sixes = ((a + b, c) for c in words if not c.startswith("Ġ") for a, b in fours)
    merges += [six for six, _ in zip(sixes, range(room - len(merges)))]
    tokens += ["".join(merge) for merge in merges] + control
    types = [gguf.TokenType.NORMAL] * (n_vocab - len(control)) + [gguf.TokenType.CONTROL] * len(control)
    return tokens, types, [" ".join(merge) for merge in merges]


def write_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(f"random weights in the shape of {shape.name}")
    writer.add_vocab_size(shape.n_vocab)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    tokens, types, merges = vocabulary(shape.n_vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(shape.pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)


def write_tensors(writer: gguf.GGUFWriter, shape: Shape, mixture: str, chain: bool) -> None:
    tensors = Tensors(writer)
    n_embd, q, kv = shape.n_embd, shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    matrices = {
        "attn_q": (q, n_embd),
        "attn_k": (kv, n_embd),
        "attn_v": (kv, n_embd),
        "attn_output": (n_embd, q),
        "ffn_gate": (shape.n_ff, n_embd),
        "ffn_up": (shape.n_ff, n_embd),
        "ffn_down": (n_embd, shape.n_ff),
    }
    embedding = matrix_type(mixture, "token_embd", 0, shape.n_layers, n_embd)
    if chain:
        tensors.chain(embedding, shape.n_vocab, n_embd)
    else:
        tensors.matrix("token_embd", embedding, shape.n_vocab, n_embd)
    for layer in range(shape.n_layers):
        block = f"blk.{layer}"
        for name, (n_rows, n_cols) in matrices.items():
            kind = matrix_type(mixture, name, layer, shape.n_layers, n_cols)
            tensors.matrix(f"{block}.{name}", kind, n_rows, n_cols)
            if shape.has_bias and name in ("attn_q", "attn_k", "attn_v"):
                tensors.vector(f"{block}.{name}.bias", tensors.rng.normal(0, 0.1, n_rows))
        tensors.vector(f"{block}.attn_norm.weight", np.ones(n_embd))
        tensors.vector(f"{block}.ffn_norm.weight", np.ones(n_embd))
    tensors.vector("output_norm.weight", np.ones(n_embd))


def make(folder: Path, shape: Shape, mixture: str, chain: bool = False) -> Path:
    """The file of `shape` in `mixture`, made if it is not there; with `chain`, a model that says the tokens of `CHAIN` one after the other."""
    path = folder / f"{shape.name}-{mixture}{'-chain' if chain else ''}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        writer = gguf.GGUFWriter(part, shape.architecture)
        write_metadata(writer, shape)
        write_tensors(writer, shape, mixture, chain)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.rename(path)
    return path


def weight_bytes(path: Path) -> int:
    """Bytes of all tensors: what decoding a token reads where the head is tied."""
    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)


def products_per_token(shape: Shape) -> int:
    """Multiply-adds of one prompt token in the matrices; the head is computed once per prompt."""
    q, kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    return shape.n_layers * shape.n_embd * (2 * q + 2 * kv + 3 * shape.n_ff)


if __name__ == "__main__":
    for chain in (False, True):
        print(make(Path(sys.argv[1]), QWEN, "Q4_K_M", chain))
