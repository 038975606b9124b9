"""Writes the trained model as `models/demo.gguf`: Q8_0 matrices, float32 norms, tokenizer and chat template inside.

Run: `python export.py [checkpoint] [file]`.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy
import torch

import vocabulary
from model import Shape
from train import CHECKPOINT

MODEL = vocabulary.HERE.parents[1] / "models" / "demo.gguf"
DESCRIPTION = (
    "A tiny game character that answers about its wares, its town and its mood from its system prompt, and can call tools. "
    "Trained from scratch on generated text; see tools/demo."
)


def write_general(writer: gguf.GGUFWriter) -> None:
    """What the file is."""
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("Demo character")
    writer.add_description(DESCRIPTION)
    writer.add_license("MIT OR Apache-2.0")
    writer.add_size_label("1.7M")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    # What a host gets that brings no sampler: where two phrases are about as likely either is chosen, else the likelier one,
    # so facts stay right.
    writer.add_float32("general.sampling.temp", 0.7)
    writer.add_float32("general.sampling.top_p", 0.5)
    writer.add_float32("general.sampling.min_p", 0.7)


def write_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """The keys of the `llama` architecture."""
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def token_types(tokens: list[str]) -> list[int]:
    """GGUF's kind of each token: control, user-defined or normal."""
    special = {text: gguf.TokenType.CONTROL for text in vocabulary.CONTROL}
    special |= {text: gguf.TokenType.USER_DEFINED for text in vocabulary.USER_DEFINED}
    return [special.get(text, gguf.TokenType.NORMAL) for text in tokens]


def write_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Vocabulary, merges, the ids that end a text or a turn, and the chat template."""
    tokenizer = vocabulary.load_tokenizer()
    tokens = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(token_types(tokens))
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokens.index(vocabulary.END_OF_TEXT))
    writer.add_eot_token_id(tokens.index(vocabulary.IM_END))
    writer.add_pad_token_id(tokens.index(vocabulary.END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(vocabulary.template_source())


def write_tensors(writer: gguf.GGUFWriter, parameters: dict[str, torch.Tensor]) -> None:
    """Matrices as Q8_0 (32 weights share a scale), vectors as float32. The head is the tied embedding."""
    for name, parameter in parameters.items():
        values = parameter.float().numpy()
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def main(checkpoint: str = str(CHECKPOINT), path: str = str(MODEL)) -> None:
    """Reads the checkpoint and writes the file."""
    state = torch.load(checkpoint, weights_only=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    write_general(writer)
    write_shape(writer, Shape(**state["shape"]))
    write_tokenizer(writer)
    write_tensors(writer, state["model"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    weights = sum(numpy.prod(p.shape) for p in state["model"].values())
    print(f"{path}: {Path(path).stat().st_size} bytes, {weights} weights, step {state['step']}, loss {state['loss']:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
