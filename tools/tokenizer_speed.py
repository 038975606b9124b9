#!/usr/bin/env python3
"""Tokens per second of libinference, llama.cpp and Hugging Face's tokenizers, on the same vocabulary and text, one thread each.

    python3 tools/tokenizer_speed.py FOLDER [--name llama-bpe] [--text FILE] [--library libinference.so]

FOLDER holds a `tokenizer.json` (byte-level BPE). llama.cpp reads the same vocabulary from a GGUF file that this script makes; `--name` is the
pre-tokenizer that the file names. Rounds alternate, medians are compared. (`tokenizers` finds control tokens in any text; ours and llama.cpp's
do not unless asked, so the ids differ where the text has some.) Needs `pip install llama-cpp-python gguf tokenizers`.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import llama_cpp
import tokenizers
from gguf import GGUFWriter, TokenType

sys.path.insert(0, str(Path(__file__).parents[1] / "bindings/python"))
import inference  # noqa: E402

ROUNDS = 5
TEXT_BYTES = 1 << 20


def write_gguf(path: Path, tokenizer_json: Path, name: str) -> None:
    """The vocabulary as a GGUF file without weights."""
    document = json.loads(tokenizer_json.read_text())
    kinds = {True: TokenType.CONTROL, False: TokenType.USER_DEFINED}
    tokens = [(i, text, TokenType.NORMAL) for text, i in document["model"]["vocab"].items()]
    tokens += [(added["id"], added["content"], kinds[added["special"]]) for added in document["added_tokens"]]
    tokens = sorted(tokens)
    writer = GGUFWriter(path, "llama")
    for add, value in (("context_length", 8), ("embedding_length", 8), ("block_count", 1), ("feed_forward_length", 8), ("head_count", 1)):
        getattr(writer, f"add_{add}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list([text for _, text, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ours(folder: Path, text: bytes):
    """A function that tokenizes `text` through the C ABI and returns the ids."""
    model = inference.load(folder, vocab_only=True)
    return lambda: model.tokenize(text, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="llama-bpe")
    parser.add_argument("--text", type=Path, help="default: this project's source code")
    parser.add_argument("--library", type=Path, default=Path(__file__).parents[1] / "build/libinference.so")
    arguments = parser.parse_args()
    inference.use(arguments.library)
    sources = [arguments.text] if arguments.text else sorted(Path(__file__).parents[1].glob("src/**/*.rs"))
    text = b"".join(path.read_bytes() for path in sources)
    text = (text * (TEXT_BYTES // len(text) + 1))[:TEXT_BYTES].decode(errors="ignore").encode()
    with tempfile.TemporaryDirectory() as scratch:
        gguf = Path(scratch) / "vocabulary.gguf"
        write_gguf(gguf, arguments.folder / "tokenizer.json", arguments.name)
        llama = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    hf = tokenizers.Tokenizer.from_file(str(arguments.folder / "tokenizer.json"))
    string = text.decode()
    runs = {
        "libinference": ours(arguments.folder, text),
        "llama.cpp": lambda: llama.tokenize(text, add_bos=False, special=False),
        "tokenizers": lambda: hf.encode(string, add_special_tokens=False).ids,
    }
    times, results = {name: [] for name in runs}, {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            results[name] = run()
            times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        rate, base = len(results[name]) / median(seconds) / 1e6, median(times["libinference"])
        same = "" if results[name] == results["libinference"] else ", other ids than ours"
        print(f"{name}: {len(results[name])} tokens, {rate:.2f} Mtokens/s, ours is {median(seconds) / base:.1f} times as fast{same}")


if __name__ == "__main__":
    main()
