"""The smallest tokenizers that are whole: every byte, a few merges, the control tokens, and exactly the size asked for."""

import gguf

# Frequent pairs of English, in the order in which they merge. `Ġ` is the space of byte-level vocabularies, `▁` of SPM.
MERGES = (
    "Ġ t, h e, Ġ a, i n, r e, o n, Ġt he, e r, Ġ s, a t, Ġ w, Ġ o, e n, Ġ c, i t, i s, a n, o r, e s, Ġ b, e d, Ġ f, in g, Ġ p, o u, Ġa n, a l, a r"
).split(", ")
NORMAL, UNKNOWN, CONTROL, BYTE = (
    int(t) for t in (gguf.TokenType.NORMAL, gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.BYTE)
)


def add_tokenizer(writer: gguf.GGUFWriter, kind: str, size: int) -> None:
    """Adds a tokenizer of `size` tokens: `spm`, or a byte-level BPE with the pre-tokenizer `kind`."""
    if kind == "spm":
        add_spm(writer, size)
    else:
        add_byte_level(writer, kind, size)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def add_spm(writer: gguf.GGUFWriter, size: int) -> None:
    """Unknown, BOS, EOS, the bytes, the letters, then pieces whose score falls with their rank."""
    fixed = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)] + [(f"<0x{b:02X}>", BYTE) for b in range(256)]
    pieces = ["".join(m.split()).replace("Ġ", "▁") for m in MERGES]
    letters = sorted({c for piece in pieces for c in piece})
    pieces = pieces[: size - len(fixed) - len(letters)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in fixed] + letters + pieces)
    writer.add_token_scores([0.0] * len(fixed) + [-1000.0] * len(letters) + [-float(i) for i in range(len(pieces))])
    writer.add_token_types([kind for _, kind in fixed] + [NORMAL] * (len(letters) + len(pieces)))
    writer.add_add_bos_token(True)


def add_byte_level(writer: gguf.GGUFWriter, pre: str, size: int) -> None:
    """Three control tokens, the 256 byte letters, then one token per merge."""
    control = ["<|pad|>", "<|begin|>", "<|end|>"]
    merges = MERGES[: size - 256 - len(control)]
    words = byte_letters() + ["".join(m.split()) for m in merges]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(control + words)
    writer.add_token_types([CONTROL] * len(control) + [NORMAL] * len(words))
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)


def byte_letters() -> list[str]:
    """GPT-2's printable letter of each byte: itself if printable in Latin-1, else the next code point from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in printable]
    return [chr(b) if b in printable else chr(256 + hidden.index(b)) for b in range(256)]
