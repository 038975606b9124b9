#!/usr/bin/env python3
"""Writes tests/data/quant_vectors.json: blocks of every GGUF type and the values that the package `gguf` reads from them.

Needs `pip install numpy gguf`. Run from the root of the project; the output is committed, so that tests need no Python.
Random bytes reach every bit of a block; only the f16 scales are replaced, by ordinary finite ones."""
import json

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# Byte offsets of the f16 scales in a block.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [],
}
N_ELEMENTS = 1024

rng = np.random.default_rng(20240807)


def random_blocks(kind):
    """`(n_blocks, block_bytes)` of `N_ELEMENTS` random weights."""
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (N_ELEMENTS // block_len, block_bytes), dtype=np.uint8)
    for offset in SCALES[kind]:
        scale = rng.normal(0, 0.05, (len(raw), 1)).astype(np.float16)
        raw[:, offset : offset + 2] = scale.view(np.uint8)
    return raw


def vector(kind):
    """The entry of one type: bytes and little-endian f32 values, both in hexadecimal."""
    if kind in SCALES:
        raw = random_blocks(kind)
    else:
        values = rng.normal(0, 1, N_ELEMENTS).astype(np.float32)
        raw = (values.astype(np.float16) if kind == T.F16 else (values.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8)
    values = dequantize(raw.reshape(-1), kind).astype("<f4")
    assert values.size == N_ELEMENTS and np.isfinite(values).all()
    return {"bytes": raw.tobytes().hex(), "values": values.tobytes().hex()}


with open("tests/data/quant_vectors.json", "w", encoding="ascii") as file:
    json.dump({kind.name: vector(kind) for kind in [T.F16, T.BF16, *SCALES]}, file, indent=0)
    file.write("\n")
