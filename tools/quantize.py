"""Quantisation at load of a model with the shape of Qwen2.5-0.5B and random weights: time, peak memory, errors against llama.cpp's.

    INF_LIBRARY=build/libinference.so python tools/quantize.py FOLDER [libggml-base.so]

FOLDER gets the model (1 GB, made once) and the saved files. With llama.cpp's library, the relative error of each kind of tensor is compared.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "bindings/python"))

WIDTH, FEED_FORWARD, LAYERS, VOCABULARY, KV = 896, 4864, 24, 151936, 128
TYPES = ("q4_0", "q8_0", "q4_k", "q5_k", "q6_k")
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the model."""
    all_shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        for name, rows, columns in (
            ("self_attn.q_proj", WIDTH, WIDTH), ("self_attn.k_proj", KV, WIDTH), ("self_attn.v_proj", KV, WIDTH),
            ("self_attn.o_proj", WIDTH, WIDTH), ("mlp.gate_proj", FEED_FORWARD, WIDTH), ("mlp.up_proj", FEED_FORWARD, WIDTH),
            ("mlp.down_proj", WIDTH, FEED_FORWARD),
        ):  # fmt: skip
            all_shapes[f"{layer}{name}.weight"] = (rows, columns)
            if name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
                all_shapes[f"{layer}{name}.bias"] = (rows,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            all_shapes[f"{layer}{name}.weight"] = (WIDTH,)
    return all_shapes


def make_model(folder: Path) -> None:
    """Writes the directory, weights in bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=WIDTH, intermediate_size=FEED_FORWARD, num_hidden_layers=LAYERS,
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    letters = [chr(b) if 33 <= b < 127 or 161 <= b < 173 or b >= 174 else None for b in range(256)]
    hidden = iter(range(256, 512))
    vocabulary = {letter or chr(next(hidden)): i for i, letter in enumerate(letters)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    steps = {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"}}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": model} | steps))
    header, offset = {}, 0
    for name, shape in shapes().items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        random = np.random.default_rng(0)
        for name, shape in shapes().items():
            values = random.standard_normal(shape, np.float32) * (0.02 if len(shape) > 1 else 0.1) + (len(shape) == 1)
            (values.view(np.uint32) >> 16).astype(np.uint16).tofile(file)


def load(folder: Path, kind: str, saved: Path) -> None:
    """In a process of its own: loads, saves, prints what it took."""
    import inference

    runtime = inference.Runtime(n_threads=2)
    before, start = peak_bytes(), time.monotonic()
    model = runtime.load(folder, quantize=kind)
    seconds, peak = time.monotonic() - start, peak_bytes() - before
    held, largest = runtime.memory().host, 2 * VOCABULARY * WIDTH
    print(f"{kind}: {seconds:.1f} s, holds {held / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB = held + {(peak - held) / largest:.2f} of the largest tensor")
    start = time.monotonic()
    model.save_gguf(saved)
    print(f"{kind}: saved in {time.monotonic() - start:.1f} s")
    model.close()
    start = time.monotonic()
    runtime.load(saved)
    print(f"{kind}: the saved file loads in {time.monotonic() - start:.2f} s")


def peak_bytes() -> int:
    """Resident memory at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def compare(folder: Path, saved: Path, kind: str, library: ctypes.CDLL) -> None:
    """The error of every matrix (of the embedding, of its first rows), ours over llama.cpp's: the worst of each storage type."""
    worst = {}
    with open(folder / "model.safetensors", "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
        for tensor in gguf.GGUFReader(saved).tensors:
            if len(tensor.shape) < 2:
                continue
            parts = tensor.name.split(".")
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight" if parts[0] == "blk" else "model.embed_tokens.weight"
            begin, end = header[name]["data_offsets"]
            file.seek(8 + header_bytes + begin)
            x = (np.frombuffer(file.read(end - begin), np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(header[name]["shape"])
            x = np.ascontiguousarray(x[:4864])
            theirs = np.zeros((len(x), tensor.data.shape[-1]), np.uint8)
            chunk = library.ggml_quantize_chunk
            chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
            chunk(int(tensor.tensor_type), x.ctypes.data, theirs.ctypes.data, 0, *x.shape, None)
            ours, other = (np.linalg.norm(gguf.quants.dequantize(q, tensor.tensor_type) - x) for q in (tensor.data[: len(x)], theirs))
            entry = (ours / other, tensor.name, ours / np.linalg.norm(x))
            worst.setdefault(tensor.tensor_type.name, []).append(entry)
    for type_name, entries in worst.items():
        ratio, name, error = max(entries)
        print(f"{kind}: {len(entries)} tensors in {type_name}, at worst {ratio:.4f} of llama.cpp's error ({name}, error {error:.5f})")


def main() -> None:
    folder = Path(sys.argv[1])
    model = folder / "qwen2.5-0.5b-shape"
    if not (model / "model.safetensors").exists():
        make_model(model)
    for kind in TYPES:
        saved = folder / f"{kind}.gguf"
        subprocess.run([sys.executable, __file__, str(folder), "--load", kind], check=True, env=os.environ)
        if len(sys.argv) > 2:
            compare(model, saved, kind, ctypes.CDLL(sys.argv[2]))
        saved.unlink()


if __name__ == "__main__":
    if "--load" in sys.argv:
        load(Path(sys.argv[1]) / "qwen2.5-0.5b-shape", sys.argv[3], Path(sys.argv[1]) / f"{sys.argv[3]}.gguf")
    else:
        main()
