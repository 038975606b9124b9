"""Scores the shipped file on 200 held-out prompts: is every fact of the answer the one in the system prompt?

Run: `python evaluate.py [file] [--show]`. Held out are combinations: no name stands with its town, no ware with its price and
no place with its way as in any training text, so an answer learnt by heart is a wrong one. The answer is greedy. It prints the
share that is right, by kind of question and in all.
"""

import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path

import lexicon as lex
import world
from reference import Reference

PROMPTS = 200
SEED = 20_000  # the trainer's generators are seeded with 1_000_003 * seed + step

# How many of the prompts ask what; all but the last kind need facts of the system prompt.
KINDS = {
    "price": 36, "have": 20, "buy": 14, "buy with tool": 20, "missing": 22, "where": 28, "lost": 8, "guide with tool": 6,
    "wares": 8, "name": 8, "town": 4, "mood": 4, "greet": 8, "toll": 4, "gate with tool": 4, "other": 6,
}  # fmt: skip


def draw(rng: random.Random, kind: str) -> tuple[world.Character, world.Turn]:
    """A held-out character and a question of that kind."""
    intent, with_tool = kind.removesuffix(" with tool"), kind.endswith("with tool")
    while True:
        who = world.random_character(rng, held_out=True)
        tool = {"buy": "sell", "guide": "guide", "gate": "open_gate"}.get(intent)
        if tool and (tool in who.tools) != with_tool:
            continue
        question = {"missing": rng.choice(["price", "have", "buy"]), "lost": "where"}.get(intent, intent)
        turn = world.random_turn(rng, who, question, missing=intent in ("missing", "lost"))
        if turn.intent == intent:
            return who, turn


def prompts(seed: int) -> list[tuple[str, world.Character, world.Turn, list[dict]]]:
    """All prompts: (kind, character, the question's turn, messages). Half of them come after other turns."""
    rng = random.Random(seed)
    drawn = []
    for kind, count in KINDS.items():
        for _ in range(count):
            who, turn = draw(rng, kind)
            messages = [{"role": "system", "content": world.system_prompt(rng, who)}]
            for before in world.random_turns(rng, who, rng.choice([0, 0, 1, 2])):
                messages += before.messages
            drawn.append((kind, who, turn, [*messages, turn.messages[0]]))
    return drawn


def numbers(text: str) -> list[int]:
    """The numbers that a text names."""
    return [int(digits) for digits in re.findall(r"\d+", text)]


def tool_call(text: str) -> tuple[str, dict] | None:
    """(name, arguments) where the answer ends in one well-formed call."""
    match = re.fullmatch(r"[^<]*<tool_call>([^<]*)</tool_call>", text)
    try:
        call = json.loads(match[1]) if match else None
        return call and (call["name"], call["arguments"])
    except (ValueError, KeyError, TypeError):
        return None


def refuses(text: str) -> bool:
    """Whether the answer says that there is no such thing, and names no price and no way."""
    spoken = any(words in text for words in ("have none", "find none", "do not sell", "do not know the way", "no such place", "never heard"))
    return spoken and not numbers(text) and not any(d in text for d in lex.DIRECTIONS)


def is_right(who: world.Character, turn: world.Turn, kind: str, text: str) -> bool:
    """Checks the facts of the answer, not its wording."""
    subject, price = turn.subject, who.wares.get(turn.subject)
    if kind.endswith("with tool"):
        wanted = next(message for message in turn.messages if "tool_calls" in message)["tool_calls"][0]["function"]
        return tool_call(text) == (wanted["name"], wanted["arguments"])
    if kind in ("price", "have", "buy"):
        return subject in text and numbers(text) == [price]
    if kind in ("missing", "lost"):
        known = subject in lex.SELLER or subject in lex.PLACES
        return refuses(text) and (not known or subject in text)
    if kind == "where":
        return all(part in text for part in (subject, *who.places[subject])) and sum(d in text for d in lex.DIRECTIONS) == 1
    if kind == "wares":
        return all(ware in text for ware in who.wares) and numbers(text) == list(who.wares.values())
    if kind == "greet":
        return text == lex.MOODS[who.mood]["greet"].format(**who.facts())
    if kind == "other":
        return text in (phrase.format(**who.facts()) for phrase in lex.SAYS["other"])
    wanted = {"name": who.name, "town": who.town, "mood": who.mood, "toll": str(who.toll)}[kind]
    return re.search(rf"\b{wanted}\b", text) is not None


def main() -> None:
    """Asks all prompts and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).parents[2] / "models" / "demo.gguf")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    arguments = parser.parse_args()
    model = Reference(arguments.file)
    scores = defaultdict(list)
    for kind, who, turn, messages in prompts(arguments.seed):
        ids, _ = model.greedy(model.encode(model.render(messages, world.tool_schemas(who.tools))))
        text = model.decode(ids)
        scores[kind].append(is_right(who, turn, kind, text))
        if arguments.show and not scores[kind][-1]:
            print(f"--- {kind}: {messages[0]['content']}\n    {messages[-1]['content']}\n    {text}")
    for kind, marks in scores.items():
        print(f"{kind:16} {sum(marks):3} of {len(marks):3}")
    marks = [mark for kind_marks in scores.values() for mark in kind_marks]
    assert len(marks) == PROMPTS
    print(f"{'right':16} {sum(marks):3} of {len(marks):3} = {100 * sum(marks) / len(marks):.1f} %")


if __name__ == "__main__":
    main()
