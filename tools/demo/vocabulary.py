"""The tokenizer of the demo model: byte-level BPE trained on the demo world, and its chat template.

Used by `train.py` and `export.py`. Split pattern and merge rules are those that GGUF calls `llama-bpe`:
numbers of up to three digits stay whole, and every fact of the lexicon is one token.
"""

import json
import random
from pathlib import Path

import jinja2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import lexicon as lex
import world

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "demo"  # ignored by git

VOCABULARY_SIZE = 2048  # all facts are one token, other words one to three; more would only grow the file
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = [END_OF_TEXT, IM_START, IM_END]  # ids 0, 1, 2
USER_DEFINED = ["<tool_call>", "</tool_call>", "<tools>", "</tools>"]  # the last ids; part of the text

# The pattern that llama.cpp names "llama-bpe" (the one of Llama 3).
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus(rng: random.Random, samples: int):
    """Texts for the merges: conversations, stories, tool calls, and the words that must become one token."""
    words = [*lex.NAMES, *lex.TOWNS, *lex.WARES, *lex.SELLER, *lex.MOODS, *lex.PLACES, *lex.DIRECTIONS]
    for _ in range(samples):
        who = world.random_character(rng)
        messages, _ = world.conversation(rng, who, turns=6)
        yield "\n".join(message["content"] for message in messages)
        yield world.story(rng, who)
        yield "\n".join(message["role"] for message in messages)
        yield " ".join(rng.sample(words, 20)) + "\n" + "\n".join(rng.sample([*lex.SELLER, *lex.PLACES], 20))
        yield " ".join(map(str, rng.sample(lex.PRICES, 10)))
        calls = [call["function"] for message in messages for call in message.get("tool_calls", [])]
        yield "\n".join(json.dumps(call, separators=(",", ":")) for call in calls)


def must_be_tokens() -> list[str]:
    """What has to be one token, so that the model copies it in one piece: facts after a space, and arguments of tools."""
    spaced = [*lex.NAMES, *lex.TOWNS, *lex.WARES, *lex.SELLER, *lex.MOODS, *lex.PLACES, *lex.DIRECTIONS]
    return [*(f" {word}" for word in spaced), *lex.SELLER, *lex.PLACES, *map(str, lex.PRICES)]


def train_tokenizer(seed: int = 1, samples: int = 8000) -> Tokenizer:
    """Trains the merges; the same seed gives the same vocabulary."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(USER_DEFINED),
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(random.Random(seed), samples), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in USER_DEFINED])
    assert tokenizer.get_vocab_size() == VOCABULARY_SIZE, tokenizer.get_vocab_size()
    split_up = [text for text in must_be_tokens() if len(tokenizer.encode(text).ids) > 1]
    assert not split_up, f"more than one token: {split_up}"
    return tokenizer


def load_tokenizer() -> Tokenizer:
    """The tokenizer of the build folder, trained first where it is absent."""
    path = BUILD / "tokenizer.json"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        train_tokenizer().save(str(path))
    return Tokenizer.from_file(str(path))


def twins(tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Pairs of ids that are one word with and without a space before it."""
    vocabulary = tokenizer.get_vocab()
    return [(index, vocabulary["\u0120" + text]) for text, index in vocabulary.items() if "\u0120" + text in vocabulary]


def template_source() -> str:
    """The chat template as it is stored in the GGUF file."""
    return (HERE / "chat_template.jinja").read_text().rstrip("\n")


def compile_template(source: str) -> jinja2.Template:
    """The template with the `tojson` of chat templates: plain JSON, no HTML escapes."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source)
