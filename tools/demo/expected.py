"""Writes `models/demo.expected.json`: prompts with the greedy answer of the NumPy reference, for the tests of the engine.

Run: `python expected.py [file]`. Each case holds the messages and tools, the rendered prompt, its ids, the ids and text of
the answer (stop token included in the ids), the five largest logits after the prompt, and `margin`: by how much each chosen
token was at least ahead of the next. A test whose arithmetic differs from float32 may rely on the cases with a wide margin.
"""

import json
import sys
from pathlib import Path

import numpy as np

import world
from reference import Reference

MODELS = Path(__file__).parents[2] / "models"
SMITH = (
    "You are Brom, the smith of Oakvale. You feel cheerful. You sell a dagger for 12 gold, a shield for 30 gold and a horseshoe"
    " for 3 gold. The inn is north, past the old oak. The well is east, behind the church."
)
BAKER = (
    "Your name is Greta. You are the baker of Millford. You are grumpy today. You have a loaf for 2 gold and a cake for 17 gold."
    " The mill is west, across the river."
)
GUARD = "You are Hilda, the guard of Ravengate. You are tired today. The toll is 5 gold. The market is south, next to the pond."

# (system prompt, tools, what the user says in turn)
CONVERSATIONS = [
    (SMITH, [], ["Hello!", "What do you sell?", "How much is the dagger?", "I will take it.", "Where is the inn?", "Goodbye!"]),
    (SMITH, ["sell", "guide"], ["What is your name?", "I will take the shield.", "Take me to the well."]),
    (SMITH, [], ["Do you have a crown?", "How are you?", "What is the capital of France?"]),
    (BAKER, ["sell"], ["Good morning!", "how much for a cake", "Do you have a bun?", "I would like a loaf.", "Thank you!"]),
    (GUARD, ["open_gate"], ["What is the toll?", "Please open the gate."]),
    (GUARD, [], ["Who are you?", "Which way to the market?", "Where is the castle?", "Any news?"]),
]
RAW = ["Once upon a time there was a", "The smith of Oakvale was called", "The smith"]


def case(model: Reference, prompt: str, limit: int) -> dict:
    """The prompt and what follows it."""
    ids = model.encode(prompt)
    model.reset()
    logits = model.forward(ids)[-1]
    top = np.argsort(-logits)[:5]
    answer, margins = model.greedy(ids, limit)
    return {
        "prompt": prompt,
        "prompt_ids": ids,
        "ids": answer,
        "text": model.decode(answer),
        "margin": round(min(margins), 4),
        "top_logits": [[int(index), round(float(logits[index]), 5)] for index in top],
    }


def parse_answer(text: str) -> dict:
    """The answer as a message of the conversation."""
    content, _, call = text.removesuffix("</tool_call>").partition("<tool_call>")
    message = {"role": "assistant", "content": content}
    return message | ({"tool_calls": [{"type": "function", "function": json.loads(call)}]} if call else {})


def chat_cases(model: Reference) -> list[dict]:
    """One case for each answer of each conversation; a tool call is answered with "ok" and leads to one more case."""
    cases = []
    for system, names, questions in CONVERSATIONS:
        tools = world.tool_schemas(names)
        messages = [{"role": "system", "content": system}]
        for question in questions:
            messages.append({"role": "user", "content": question})
            while messages[-1]["role"] != "assistant":
                entry = case(model, model.render(messages, tools), limit=64)
                cases.append({"messages": list(messages), "tools": tools, **entry})
                messages.append(parse_answer(entry["text"]))
                if "tool_calls" in messages[-1]:
                    messages.append({"role": "tool", "content": "ok"})
    return cases


def main(path: str = str(MODELS / "demo.gguf")) -> None:
    """Writes the file and prints the conversations."""
    model = Reference(Path(path))
    chats = chat_cases(model)
    raw = [case(model, prompt, limit=48) for prompt in RAW]
    target = MODELS / "demo.expected.json"
    target.write_text(json.dumps({"chat": chats, "raw": raw}, indent=1, ensure_ascii=False) + "\n")
    for entry in chats:
        print(f"{entry['messages'][-1]['content'][:60]:40} -> {entry['text']}   (margin {entry['margin']})")
    for entry in raw:
        print(f"{entry['prompt']} ->{entry['text']}   (margin {entry['margin']})")
    print(f"{target}: {len(chats) + len(raw)} cases")


if __name__ == "__main__":
    main(*sys.argv[1:])
