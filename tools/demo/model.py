"""The demo model in PyTorch: a small Llama with the parameter names and the rotary pairing of GGUF.

Used by `train.py`; `export.py` writes its parameters as they are.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. Every row length is a multiple of 32, the block of Q8_0."""

    vocabulary: int = 2048
    embedding: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 3
    head_size: int = 32
    feed_forward: int = 384
    context: int = 1024
    rope_base: float = 500000.0  # most of the few rotary pairs turn slowly, so content matches at any distance
    norm_epsilon: float = 1e-5


def rope_table(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, each [context, head_size / 2]: angle = position / base^(2i / head_size) (arXiv:2104.09864)."""
    frequency = shape.rope_base ** (-torch.arange(0, shape.head_size, 2, dtype=torch.float64) / shape.head_size)
    angle = torch.arange(shape.context, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns neighbouring pairs (GGUF's llama pairing). x [batch, head, time, head_size], cos and sin [batch, 1, time, head_size / 2]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """One layer: attention, then SwiGLU (arXiv:2002.05202), each behind an RMS norm and added to its input."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.attn_norm = nn.RMSNorm(shape.embedding, shape.norm_epsilon)
        self.attn_q = nn.Linear(shape.embedding, shape.heads * shape.head_size, bias=False)
        self.attn_k = nn.Linear(shape.embedding, shape.kv_heads * shape.head_size, bias=False)
        self.attn_v = nn.Linear(shape.embedding, shape.kv_heads * shape.head_size, bias=False)
        self.attn_output = nn.Linear(shape.heads * shape.head_size, shape.embedding, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.embedding, shape.norm_epsilon)
        self.ffn_gate = nn.Linear(shape.embedding, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.embedding, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.embedding, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """x [batch, time, embedding] -> the same shape."""
        x = x + self.attention(self.attn_norm(x), cos, sin)
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))

    def attention(self, h: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Causal attention with grouped key and value heads (arXiv:2305.13245)."""
        batch, time, _ = h.shape
        q, k, v = (
            projection(h).view(batch, time, -1, self.shape.head_size).transpose(1, 2)
            for projection in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        # Spelled out: on the CPU in bfloat16 this is twice as fast as torch's fused attention at these sizes.
        future = torch.full((time, time), -torch.inf, dtype=q.dtype).triu(1)
        weights = (q @ k.transpose(2, 3) * self.shape.head_size**-0.5 + future).softmax(dim=-1)
        return self.attn_output((weights @ v).transpose(1, 2).flatten(2))


class Model(nn.Module):
    """Token ids -> final hidden states; `logits` is the tied head."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.embedding)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.embedding, shape.norm_epsilon)
        for name, table in zip(("cos", "sin"), rope_table(shape)):
            self.register_buffer(name, table, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; what writes into the residual stream starts at zero, so every block starts as identity."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.05 if "token_embd" in name else parameter.shape[1] ** -0.5)
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(parameter)
        wire_induction(self)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """ids and positions [batch, time] -> hidden states [batch, time, embedding]."""
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [.., embedding] -> logits [.., vocabulary]."""
        return F.linear(hidden, self.token_embd.weight)


@torch.no_grad()
def wire_induction(model: Model) -> None:
    """Starts some heads as induction circuits (arXiv:2209.11895), the part of a model that copies.

    Random weights need hours of one core until they find one; from this start it works after a minute of training.
    Block 0, heads 0 to 3 look one to four tokens back and note what stands there, each in a subspace of its own.
    Heads of the other blocks look for the position whose note equals what they seek, and repeat what stands there.
    """
    shape, size = model.shape, model.shape.head_size
    basis = torch.linalg.qr(torch.randn(shape.embedding, shape.embedding))[0]
    constant, (here, copied, *back) = basis[-1], basis[:-1].split(size)  # the last of `back` is one row short
    embedding = model.token_embd.weight
    embedding += 0.5 * constant - (embedding @ constant)[:, None] * constant  # a part that all tokens share
    shared = 0.5 * (shape.embedding**0.5) / embedding.norm(dim=1).mean()  # its size behind the RMS norm

    wire_offsets(model.blk[0], constant / shared, here, back)
    wire_match(model.blk[1], 0, seek=here, note=back[0], copied=copied)  # a b .. a -> b
    wire_match(model.blk[1], 1, seek=back[0], note=back[1], copied=copied)  # a ? b .. a ? -> b
    wire_match(model.blk[2], 0, seek=back[1], note=back[2], copied=copied)  # a ? ? b .. a ? ? -> b
    wire_match(model.blk[2], 1, seek=back[2], note=back[3], copied=copied)  # a ? ? ? b .. a ? ? ? -> b


def wire_match(block: Block, group: int, seek: torch.Tensor, note: torch.Tensor, copied: torch.Tensor) -> None:
    """Lets the first query head of a group find where `note` equals its own `seek`, and copy that token's part `copied`."""
    size = block.shape.head_size
    slow = 12  # rows from here on belong to rotary pairs that hardly turn within the context
    head = group * (block.shape.heads // block.shape.kv_heads) * size
    for weight, start, subspace in ((block.attn_q.weight, head, seek), (block.attn_k.weight, group * size, note)):
        weight[start : start + slow] = 0.0
        weight[start + slow : start + size] = 1.5 * subspace[: size - slow]
    block.attn_v.weight[group * size : (group + 1) * size] = copied
    block.attn_output.weight[:, head : head + size] = 0.3 * copied.T


def wire_offsets(block: Block, constant: torch.Tensor, here: torch.Tensor, back: list[torch.Tensor]) -> None:
    """Lets query head h look h + 1 tokens back and write what it sees to `back[h]`. Query and key are the same for every
    token, only rotary angles differ, and the query's angle cancels that of the offset. Five fast pairs point at one token."""
    strength, size = 6.0, block.shape.head_size
    for head, subspace in enumerate(back):
        group = head // (block.shape.heads // block.shape.kv_heads)
        block.attn_k.weight[group * size : (group + 1) * size] = 0.0
        block.attn_v.weight[group * size : (group + 1) * size] = here
        block.attn_output.weight[:, head * size : head * size + len(subspace)] = 0.3 * subspace.T
        for pair in range(5):
            angle = -(block.shape.rope_base ** (-2 * pair / size)) * (head + 1)
            key, query = group * size + 2 * pair, head * size + 2 * pair
            block.attn_k.weight[key] = strength * constant
            block.attn_q.weight[query] = strength * math.cos(angle) * constant
            block.attn_q.weight[query + 1] = strength * math.sin(angle) * constant
