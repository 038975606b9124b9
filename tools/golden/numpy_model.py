"""A second reading of the same file: the decoder in float64 numpy, straight from the GGUF, sharing nothing with `transformers`.

Its agreement with `transformers` proves the converter. Shapes: n tokens, h heads, g KV heads, d elements per head.
"""

from pathlib import Path

import gguf
import numpy as np


class NumpyModel:
    """A GGUF file, dequantised."""

    def __init__(self, path: Path):
        reader = gguf.GGUFReader(path)
        self.keys = {name: field.contents() for name, field in reader.fields.items()}
        self.arch = self.keys["general.architecture"]
        self.tensors = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors
        }
        self.interleaved = self.arch == "llama"
        n_embd, self.n_heads = self.key("embedding_length"), self.key("attention.head_count")
        self.n_kv_heads = self.key("attention.head_count_kv", self.n_heads)
        self.head_dim = self.key("attention.key_length", n_embd // self.n_heads)
        self.theta = self.key("rope.freq_base", 10000.0)
        self.eps = self.key("attention.layer_norm_rms_epsilon")

    def key(self, name: str, default=None):
        """The architecture's key `name`."""
        return self.keys.get(f"{self.arch}.{name}", default)

    def logits(self, tokens: list[int]) -> np.ndarray:
        """`(n, n_vocab)`"""
        x = self.tensors["token_embd.weight"][tokens]
        for layer in range(self.key("block_count")):
            x = x + self.attention(f"blk.{layer}", self.norm(f"blk.{layer}.attn_norm", x))
            x = x + self.feed_forward(f"blk.{layer}", self.norm(f"blk.{layer}.ffn_norm", x))
        head = "output" if "output.weight" in self.tensors else "token_embd"
        return self.linear(head, self.norm("output_norm", x))

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """`x W^T + b`"""
        return x @ self.tensors[f"{name}.weight"].T + self.tensors.get(f"{name}.bias", 0.0)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        """RMS normalisation over the last axis; nothing if the file has no such norm."""
        if f"{name}.weight" not in self.tensors:
            return x
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.tensors[f"{name}.weight"]

    def attention(self, block: str, x: np.ndarray) -> np.ndarray:
        """`(n, n_embd)` -> `(n, n_embd)`, causal."""
        n, d, group = len(x), self.head_dim, self.n_heads // self.n_kv_heads
        q = self.rotate(self.norm(f"{block}.attn_q_norm", self.linear(f"{block}.attn_q", x).reshape(n, self.n_heads, d)))
        k = self.rotate(self.norm(f"{block}.attn_k_norm", self.linear(f"{block}.attn_k", x).reshape(n, self.n_kv_heads, d)))
        v = self.linear(f"{block}.attn_v", x).reshape(n, self.n_kv_heads, d)
        k, v = k.repeat(group, axis=1), v.repeat(group, axis=1)  # (n, h, d)
        scores = np.einsum("nhd,mhd->hnm", q, k) / np.sqrt(d)
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self.linear(f"{block}.attn_output", np.einsum("hnm,mhd->nhd", weights, v).reshape(n, -1))

    def rotate(self, x: np.ndarray) -> np.ndarray:
        """Rotary embedding of `(n, heads, d)`: pairs are neighbours for llama, halves for everybody else."""
        d = self.head_dim
        frequency = self.theta ** (-np.arange(0, d, 2) / d) / self.tensors.get("rope_freqs.weight", 1.0)  # (d / 2,)
        angle = (np.arange(len(x))[:, None] * frequency)[:, None, :]  # (n, 1, d / 2)
        first, second = (np.s_[..., ::2], np.s_[..., 1::2]) if self.interleaved else (np.s_[..., : d // 2], np.s_[..., d // 2 :])
        out = np.empty_like(x)
        out[first] = x[first] * np.cos(angle) - x[second] * np.sin(angle)
        out[second] = x[first] * np.sin(angle) + x[second] * np.cos(angle)
        return out

    def feed_forward(self, block: str, x: np.ndarray) -> np.ndarray:
        """SwiGLU."""
        gate = self.linear(f"{block}.ffn_gate", x)
        return self.linear(f"{block}.ffn_down", gate / (1 + np.exp(-gate)) * self.linear(f"{block}.ffn_up", x))
