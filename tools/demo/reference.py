"""An independent reading of the GGUF file: a float32 Llama in NumPy, written for clarity.

Used by `evaluate.py` and `expected.py`, so that their figures are of the shipped file. It shares no code with the
trainer: weights, sizes, tokenizer and chat template all come from the file.
"""

import json
from pathlib import Path

import gguf
import jinja2
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

CONTROL, USER_DEFINED = 3, 4  # token types of GGUF


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """x [.., n], weight [n] (arXiv:1910.07467)."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


class Reference:
    """One model with one conversation's key-value cache."""

    def __init__(self, path: Path):
        reader = gguf.GGUFReader(path)
        self.metadata = {key: field.contents() for key, field in reader.fields.items()}
        self.weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        self.heads = self.metadata["llama.attention.head_count"]
        self.kv_heads = self.metadata["llama.attention.head_count_kv"]
        self.head_size = self.metadata["llama.rope.dimension_count"]
        self.epsilon = self.metadata["llama.attention.layer_norm_rms_epsilon"]
        self.tokenizer = tokenizer_of(self.metadata)
        self.stops = {self.metadata[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot")}
        self.reset()

    def reset(self) -> None:
        """Forgets the conversation."""
        self.cache = [None] * self.metadata["llama.block_count"]
        self.length = 0

    def forward(self, ids: list[int]) -> np.ndarray:
        """Appends tokens; logits [len(ids), vocabulary]."""
        x = self.weights["token_embd.weight"][ids]
        cos, sin = self.rope_at(np.arange(self.length, self.length + len(ids)))
        for layer in range(len(self.cache)):
            x = x + self.attention(layer, self.normed(x, f"blk.{layer}.attn_norm"), cos, sin)
            x = x + self.feed_forward(layer, self.normed(x, f"blk.{layer}.ffn_norm"))
        self.length += len(ids)
        return self.normed(x, "output_norm") @ self.weights["token_embd.weight"].T

    def normed(self, x: np.ndarray, name: str) -> np.ndarray:
        """The RMS norm of that name."""
        return rms_norm(x, self.weights[f"{name}.weight"], self.epsilon)

    def feed_forward(self, layer: int, h: np.ndarray) -> np.ndarray:
        """down(silu(gate h) * up h)."""
        gate, up, down = (self.weights[f"blk.{layer}.ffn_{part}.weight"] for part in ("gate", "up", "down"))
        gated = h @ gate.T
        return (gated / (1 + np.exp(-gated)) * (h @ up.T)) @ down.T

    def rope_at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines, each [len(positions), 1, head_size / 2]."""
        exponent = np.arange(0, self.head_size, 2) / self.head_size
        angle = positions[:, None] / self.metadata["llama.rope.freq_base"] ** exponent
        return np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]

    def attention(self, layer: int, h: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        """h [new, embedding] -> the same shape; extends the layer's cache [time, kv_heads, head_size]."""
        q, k, v = (
            (h @ self.weights[f"blk.{layer}.attn_{part}.weight"].T).reshape(len(h), -1, self.head_size) for part in "qkv"
        )
        q, k = (self.rotate(part, cos, sin) for part in (q, k))
        if self.cache[layer] is not None:
            k, v = (np.concatenate(pair) for pair in zip(self.cache[layer], (k, v)))
        self.cache[layer] = (k, v)
        k, v = (np.repeat(part, self.heads // self.kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(np.float32(self.head_size))
        future = np.arange(len(k))[None, :] > np.arange(self.length, len(k))[:, None]
        scores = np.where(future, -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out = np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), v)
        return out.reshape(len(h), -1) @ self.weights[f"blk.{layer}.attn_output.weight"].T

    @staticmethod
    def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        """Turns neighbouring pairs. x [new, heads, head_size]."""
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def render(self, messages: list[dict], tools: list[dict] | None = None) -> str:
        """The prompt that the file's chat template makes, ready for the answer."""
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        template = environment.from_string(self.metadata["tokenizer.chat_template"])
        return template.render(messages=messages, tools=tools, add_generation_prompt=True)

    def encode(self, text: str) -> list[int]:
        """Text, control tokens included, to ids."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def greedy(self, prompt: list[int], limit: int = 64) -> tuple[list[int], list[float]]:
        """The most likely continuation until a stop token, and how far each choice was ahead of the next best."""
        self.reset()
        ids, margins, feed = [], [], prompt
        while len(ids) < limit:
            logits = self.forward(feed)[-1]
            second, best = np.sort(logits)[-2:]
            feed = [int(logits.argmax())]
            ids += feed
            margins.append(float(best - second))
            if feed[0] in self.stops:
                break
        return ids, margins

    def decode(self, ids: list[int]) -> str:
        """Ids to text; control tokens are not text."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def tokenizer_of(metadata: dict) -> Tokenizer:
    """The byte-level BPE that the file describes, with the split pattern that GGUF calls `llama-bpe`."""
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({text: index for index, text in enumerate(tokens)}, merges, ignore_merges=True))
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [AddedToken(t, normalized=False, special=special) for t, kind in zip(tokens, kinds) if kind == wanted]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
    return tokenizer
