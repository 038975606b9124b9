#!/usr/bin/env python3
"""A Llama of 110 million random weights, quantised by llama.cpp, each file with its own float32 copy: what comparisons of accuracy need.

    python3 tools/random_model.py FOLDER [Q4_K_M Q8_0 Q4_0 ...]

Writes FOLDER/f32.gguf, FOLDER/<type>.gguf, and FOLDER/<type>.f32.gguf, which holds the same weights as <type>.gguf, as float32. Then

    python3 tools/compare_llama_cpp.py FOLDER/Q4_K_M.gguf --reference FOLDER/Q4_K_M.f32.gguf --random 128

The weights are normal, and wide enough for predictions with a clear winner now and then, as trained models have them.
Needs `pip install llama-cpp-python gguf numpy`.
"""

import sys
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType
from gguf.quants import dequantize

N_EMBD, N_LAYERS, N_HEADS, N_KV_HEADS, N_FF, N_VOCAB = 768, 12, 12, 4, 2048, 32000
HEAD_DIM = N_EMBD // N_HEADS
# A logit is a sum of N_EMBD products with a normalised state: 3 / sqrt(N_EMBD) gives logits of a standard deviation of 3.
HEAD_STD = 3 / np.sqrt(N_EMBD)


def tensors():
    """(name, values) of all tensors; matrices (n_out, n_in) keep the variance of their input."""
    rng = np.random.default_rng(1)

    def matrix(n_out: int, n_in: int, std: float | None = None) -> np.ndarray:
        return rng.standard_normal((n_out, n_in), dtype=np.float32) * np.float32(std or 1 / np.sqrt(n_in))

    yield "token_embd.weight", matrix(N_VOCAB, N_EMBD, 1.0)
    for i in range(N_LAYERS):
        yield f"blk.{i}.attn_norm.weight", 1 + 0.1 * rng.standard_normal(N_EMBD, dtype=np.float32)
        yield f"blk.{i}.attn_q.weight", matrix(N_EMBD, N_EMBD)
        yield f"blk.{i}.attn_k.weight", matrix(N_KV_HEADS * HEAD_DIM, N_EMBD)
        yield f"blk.{i}.attn_v.weight", matrix(N_KV_HEADS * HEAD_DIM, N_EMBD)
        yield f"blk.{i}.attn_output.weight", matrix(N_EMBD, N_EMBD)
        yield f"blk.{i}.ffn_norm.weight", 1 + 0.1 * rng.standard_normal(N_EMBD, dtype=np.float32)
        yield f"blk.{i}.ffn_gate.weight", matrix(N_FF, N_EMBD)
        yield f"blk.{i}.ffn_up.weight", matrix(N_FF, N_EMBD)
        yield f"blk.{i}.ffn_down.weight", matrix(N_EMBD, N_FF)
    yield "output_norm.weight", 1 + 0.1 * rng.standard_normal(N_EMBD, dtype=np.float32)
    yield "output.weight", matrix(N_VOCAB, N_EMBD, HEAD_STD)


def write(path: Path, contents) -> None:
    """A GGUF file of `contents`, all float32, with a vocabulary of words without meaning."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    tokens = special + [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    tokens += [(f"w{i}", TokenType.NORMAL) for i in range(N_VOCAB - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([-float(i) for i in range(N_VOCAB)])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, values in contents:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def float_copy(path: Path):
    """(name, float32 values) of the tensors of a GGUF file."""
    for tensor in GGUFReader(path).tensors:
        is_float = tensor.tensor_type == GGMLQuantizationType.F32
        yield tensor.name, np.array(tensor.data) if is_float else dequantize(tensor.data, tensor.tensor_type)


def main() -> None:
    folder, types = Path(sys.argv[1]), sys.argv[2:] or ["Q4_K_M", "Q8_0", "Q4_0"]
    folder.mkdir(parents=True, exist_ok=True)
    original = folder / "f32.gguf"
    write(original, tensors())
    for kind in types:
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
        quantised = folder / f"{kind}.gguf"
        if llama_cpp.llama_model_quantize(str(original).encode(), str(quantised).encode(), parameters):
            raise SystemExit(f"{kind}: llama.cpp did not quantise")
        write(folder / f"{kind}.f32.gguf", float_copy(quantised))


if __name__ == "__main__":
    main()
