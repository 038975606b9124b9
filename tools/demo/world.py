"""Writes the training text of the demo model: characters with random facts, and conversations about them.

Used by `tokenizer.py`, `train.py` and `evaluate.py`. Every character has fresh facts (name, town, wares,
prices, places), so the only way to answer right is to read them in the system prompt.
A conversation is a list of messages as in the chat APIs: `{"role", "content"}` and optionally `tool_calls`.
"""

import random
import zlib
from dataclasses import dataclass, field

import lexicon as lex

# Of all two-part names, about one in eight is never used in training: the evaluation asks with those.
HELD_OUT_SHARE = 8


@dataclass
class Character:
    """The facts of one character; what the system prompt says and the answers repeat."""

    name: str
    town: str
    trade: str
    mood: str
    wares: dict[str, int]  # ware -> price in gold
    places: dict[str, tuple[str, str]]  # place -> (direction, landmark)
    toll: int | None  # only guards have one
    tools: list[str] = field(default_factory=list)  # names from lex.TOOLS

    def facts(self) -> dict[str, object]:
        """What every phrase may mention without asking for a ware or a place."""
        return {"name": self.name, "town": self.town, "trade": self.trade, "mood": self.mood, "toll": self.toll}


def is_held_out(name: str) -> bool:
    """Whether a name is kept from training. A checksum decides, so the split needs no list."""
    return zlib.crc32(name.encode()) % HELD_OUT_SHARE == 0


def random_name(rng: random.Random, heads: list[str], tails: list[str], held_out: bool) -> str:
    """A two-part name, or now and then a made-up one, from the training side or from the held-out side."""
    while True:
        made_up = rng.random() < 0.25
        name = random_syllables(rng).capitalize() if made_up else rng.choice(heads) + rng.choice(tails)
        if is_held_out(name) == held_out:
            return name


def random_syllables(rng: random.Random) -> str:
    """A word that can be spoken and means nothing: `zukava`, `brolth`. It teaches copying letter group by letter group."""
    count = rng.randint(1, 3)
    syllables = [rng.choice(lex.ONSETS) + rng.choice("aeiouy") for _ in range(count)]
    return "".join(syllables) + (rng.choice(lex.CODAS) if count == 1 or rng.random() < 0.5 else "")


def random_ware(rng: random.Random, trade: str) -> str:
    """A ware of a trade, sometimes with an adjective (`red tent`)."""
    noun = rng.choice(lex.WARES[trade])
    return f"{rng.choice(lex.ADJECTIVES)} {noun}" if rng.random() < 0.2 else noun


def random_character(rng: random.Random, held_out: bool = False) -> Character:
    """A character with fresh facts."""
    trade = rng.choice(list(lex.WARES))
    nouns = rng.sample(lex.WARES[trade], rng.randint(2, 4)) if trade != "guard" else []
    wares = [f"{rng.choice(lex.ADJECTIVES)} {noun}" if rng.random() < 0.2 else noun for noun in nouns]
    places = rng.sample(lex.PLACES, rng.randint(1, 3))
    return Character(
        name=random_name(rng, lex.PERSON_HEADS, lex.PERSON_TAILS, held_out),
        town=random_name(rng, lex.TOWN_HEADS, lex.TOWN_TAILS, held_out),
        trade=trade,
        mood=rng.choice(list(lex.MOODS)),
        wares={ware: rng.randint(1, 99) for ware in wares},
        places={place: (rng.choice(lex.DIRECTIONS), rng.choice(lex.LANDMARKS)) for place in places},
        toll=rng.randint(1, 99) if trade == "guard" else None,
        tools=random_tools(rng, trade),
    )


def random_tools(rng: random.Random, trade: str) -> list[str]:
    """No tools for half of the characters; else those of the trade, perhaps with the guide."""
    if rng.random() < 0.5:
        return []
    tools = ["open_gate"] if trade == "guard" else ["sell"]
    if rng.random() < 0.5:
        tools.append("guide")
    return tools


def join_list(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def wares_list(character: Character) -> str:
    """`a dagger for 12 gold and an axe for 30 gold`."""
    return join_list([f"{lex.with_article(ware)} for {price} gold" for ware, price in character.wares.items()])


def system_prompt(rng: random.Random, who: Character) -> str:
    """The facts in plain sentences: who first, then the rest in any order."""
    opening = rng.choice(["You are {name}, the {trade} of {town}.", "Your name is {name}. You are the {trade} of {town}."])
    rest = [rng.choice(["You are {mood} today.", "You feel {mood}."]).format(mood=who.mood)]
    if who.wares:
        rest.append(rng.choice(["You sell {list}.", "You have {list}."]).format(list=wares_list(who)))
    if who.toll is not None:
        rest.append(rng.choice(["The toll is {toll} gold.", "To pass the gate costs {toll} gold."]).format(toll=who.toll))
    rest += [f"The {place} is {direction}, {landmark}." for place, (direction, landmark) in who.places.items()]
    rng.shuffle(rest)
    return " ".join([opening.format(**who.facts()), *rest])


def tool_schemas(names: list[str]) -> list[dict]:
    """The tools as a host passes them to the chat template (JSON schema)."""
    schemas = []
    for name in names:
        description, arguments = lex.TOOLS[name]
        properties = {key: {"type": kind} for key, kind in arguments.items()}
        parameters = {"type": "object", "properties": properties, "required": list(arguments)}
        schemas.append({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
    return schemas


@dataclass
class Turn:
    """One question and what follows: the answer, or a tool call, its result and the answer to that."""

    intent: str
    subject: str  # the ware or place asked about; empty where there is none
    messages: list[dict]


def ask(rng: random.Random, intent: str, ware: str = "", place: str = "") -> dict:
    """The user's message; sometimes typed carelessly, as people do."""
    text = rng.choice(lex.ASKS[intent]).format(ware=ware, a_ware=lex.with_article(ware), place=place)
    if rng.random() < 0.15:
        text = text.lower().rstrip(".?!")
    return {"role": "user", "content": text}


def say(rng: random.Random, who: Character, key: str, **more: object) -> dict:
    """The character's message; now and then its mood speaks first."""
    text = rng.choice(lex.SAYS[key]).format(**who.facts(), **more)
    if rng.random() < 0.25 and key != "mood":
        text = f"{rng.choice(lex.MOODS[who.mood])} {text}"
    return {"role": "assistant", "content": text}


def call(message: dict, name: str, **arguments: object) -> dict:
    """The message with a call of one tool after its words."""
    return message | {"tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}


def after_call(rng: random.Random, who: Character, request: dict, done: str, **more: object) -> list[dict]:
    """A tool call, what the host's tool answered, and what the character says to that."""
    outcome = rng.choices(["done", "poor", "failed"], [6, 2, 1])[0]
    result = {"role": "tool", "content": rng.choice(lex.TOOL_RESULTS[outcome])}
    return [request, result, say(rng, who, done if outcome == "done" else outcome, **more)]


def ware_turn(rng: random.Random, who: Character, intent: str, missing: bool) -> Turn:
    """A question about one ware: its price, whether it is there, or the purchase of it."""
    ware = absent_ware(rng, who) if missing or not who.wares else rng.choice(list(who.wares))
    facts = {"ware": ware, "A_ware": lex.with_article(ware).capitalize(), "price": who.wares.get(ware)}
    if ware not in who.wares:
        answer = [say(rng, who, "missing", **facts)]
    elif intent == "buy" and "sell" in who.tools:
        answer = after_call(rng, who, call(say(rng, who, "selling", **facts), "sell", item=ware, price=who.wares[ware]), "sold", **facts)
    else:
        answer = [say(rng, who, intent, **facts)]
    return Turn("missing" if ware not in who.wares else intent, ware, [ask(rng, intent, ware=ware), *answer])


def absent_ware(rng: random.Random, who: Character) -> str:
    """A ware that the character does not have, often one of its own trade."""
    owned = {ware.split()[-1] for ware in who.wares}
    while True:
        trade = who.trade if who.wares and rng.random() < 0.5 else rng.choice([t for t in lex.WARES if lex.WARES[t]])
        ware = random_ware(rng, trade)
        if ware.split()[-1] not in owned:
            return ware


def place_turn(rng: random.Random, who: Character, intent: str, missing: bool) -> Turn:
    """The way to a place, known or not, or the wish to be led there."""
    unknown = [place for place in lex.PLACES if place not in who.places]
    place = rng.choice(unknown if missing else list(who.places))
    question = ask(rng, intent, place=place)
    if missing:
        return Turn("lost", place, [question, say(rng, who, "lost", place=place)])
    direction, landmark = who.places[place]
    if intent == "guide" and "guide" in who.tools:
        request = call(say(rng, who, "guiding", place=place, direction=direction, landmark=landmark), "guide", place=place)
        return Turn(intent, place, [question, *after_call(rng, who, request, "guided", place=place)])
    return Turn(intent, place, [question, say(rng, who, intent, place=place, direction=direction, landmark=landmark)])


def gate_turn(rng: random.Random, who: Character, intent: str) -> Turn:
    """The toll, or the wish to pass the gate."""
    question = ask(rng, intent)
    if who.toll is None:
        return Turn("no_toll", "", [question, say(rng, who, "no_toll")])
    if intent == "gate" and "open_gate" in who.tools:
        request = call(say(rng, who, "opening"), "open_gate", toll=who.toll)
        return Turn(intent, "", [question, *after_call(rng, who, request, "opened")])
    return Turn(intent, "", [question, say(rng, who, intent)])


def small_talk(rng: random.Random, who: Character, intent: str) -> Turn:
    """Everything that asks for no ware and no place."""
    key = "no_wares" if intent == "wares" and not who.wares else intent
    more = {
        "work": rng.choice(lex.WORK[who.trade]),
        "reason": lex.REASONS[who.mood],
        "rumour": rng.choice(lex.RUMOURS),
        "list": wares_list(who) if who.wares else "",
    }
    return Turn(key, "", [ask(rng, intent), say(rng, who, key, **more)])


# How often each question comes up. Those that need facts of the prompt come most.
WEIGHTS = {
    "price": 5, "have": 4, "buy": 4, "where": 5, "guide": 2, "wares": 2, "name": 2, "town": 1, "mood": 3, "work": 1,
    "rumour": 1, "other": 1, "thanks": 0.5, "toll": 0.3, "gate": 0.3,
}  # fmt: skip
GUARD_WEIGHTS = WEIGHTS | {"price": 0.5, "have": 0.5, "buy": 0.5, "wares": 0.5, "toll": 4, "gate": 4}


def random_turn(rng: random.Random, who: Character, intent: str | None = None, missing: bool | None = None) -> Turn:
    """One turn; three in ten questions about wares and places are about something that is not there."""
    weights = WEIGHTS if who.toll is None else GUARD_WEIGHTS
    intent = intent or rng.choices(list(weights), list(weights.values()))[0]
    missing = rng.random() < 0.3 if missing is None else missing
    if intent in ("price", "have", "buy"):
        return ware_turn(rng, who, intent, missing)
    if intent in ("where", "guide"):
        return place_turn(rng, who, intent, missing)
    if intent in ("toll", "gate"):
        return gate_turn(rng, who, intent)
    return small_talk(rng, who, intent)


def conversation(rng: random.Random, who: Character, turns: int) -> tuple[list[dict], list[dict]]:
    """A whole conversation of about so many turns: (messages, tools)."""
    messages = [{"role": "system", "content": system_prompt(rng, who)}]
    if rng.random() < 0.4:
        messages += small_talk(rng, who, "greet").messages
    for _ in range(turns):
        messages += random_turn(rng, who).messages
    if rng.random() < 0.3:
        messages += small_talk(rng, who, "bye").messages
    return messages, tool_schemas(who.tools)


def story(rng: random.Random, who: Character) -> str:
    """A few plain sentences about a character, so that a raw prompt continues in words as well."""
    opening = rng.choice(["Once upon a time there was a {trade} called {name}.", "The {trade} of {town} was called {name}.", "In the town of {town} lived {name}, the {trade}."])
    middle = [
        f"{who.name} was {who.mood}, because {lex.REASONS[who.mood]}.",
        f"One day a traveller came from the {rng.choice(lex.DIRECTIONS)} and asked for the way to the {rng.choice(lex.PLACES)}.",
        f"Every morning {who.name} walked to the {rng.choice(lex.PLACES)} {rng.choice(lex.LANDMARKS)}.",
        rng.choice(lex.RUMOURS),
    ]
    if who.wares:
        middle.append(f"{who.name} sold {wares_list(who)}.")
    rng.shuffle(middle)
    ending = rng.choice(["And so the day came to an end in {town}.", "Then {name} went home and slept well.", "And {name} smiled."])
    return " ".join([opening.format(**who.facts()), *middle[: rng.randint(2, 4)], ending.format(**who.facts())])
