"""Writes the training text of the demo model: characters with random facts, and conversations about them.

Used by `vocabulary.py`, `train.py` and `evaluate.py`. Every character has fresh facts (name, town, wares, prices, places),
so the only way to answer right is to read them in the system prompt.
A conversation is a list of messages as in the chat APIs: `{"role", "content"}` and optionally `tool_calls`.
"""

import random
import zlib
from dataclasses import dataclass, field

import lexicon as lex

# Of all pairs of facts (name and town, ware and price, place and way), one in eight never stands in a training text:
# the evaluation asks with nothing but those.
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


def is_held_out(*facts: object) -> bool:
    """Whether these facts are kept from training together. A checksum decides, so the split needs no list."""
    return zlib.crc32(" ".join(map(str, facts)).encode()) % HELD_OUT_SHARE == 0


def draw_pair(rng: random.Random, left: list, right: list, held_out: bool) -> tuple:
    """One of each list, from the training side or from the held-out side."""
    while True:
        pair = rng.choice(left), rng.choice(right)
        if is_held_out(*pair) == held_out:
            return pair


def random_character(rng: random.Random, held_out: bool = False) -> Character:
    """A character with fresh facts."""
    trade = rng.choice(list(lex.WARES))
    name, town = draw_pair(rng, lex.NAMES, lex.TOWNS, held_out)
    wares = rng.sample(lex.WARES[trade], rng.choice([2, 2, 2, 3, 3, 4])) if trade != "guard" else []
    places = rng.sample(lex.PLACES, rng.choice([1, 1, 1, 2, 2, 3]))
    ways = [(direction, landmark) for direction in lex.DIRECTIONS for landmark in lex.LANDMARKS]
    return Character(
        name=name,
        town=town,
        trade=trade,
        mood=rng.choice(list(lex.MOODS)),
        wares=dict(draw_pair(rng, [ware], lex.PRICES, held_out) for ware in wares),
        places=dict(draw_pair(rng, [place], ways, held_out) for place in places),
        toll=draw_pair(rng, [town], lex.PRICES, held_out)[1] if trade == "guard" else None,
        tools=random_tools(rng, trade),
    )


def random_tools(rng: random.Random, trade: str) -> list[str]:
    """No tools for a third of the characters; else those of the trade, perhaps with the guide."""
    if rng.random() < 0.35:
        return []
    tools = ["open_gate"] if trade == "guard" else ["sell"]
    if rng.random() < 0.6:
        tools.append("guide")
    return tools


def random_word(rng: random.Random) -> str:
    """A word that can be spoken and means nothing: `zukavo`. It stands for all that the character never heard of."""
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiouy") for _ in range(rng.randint(1, 3))) + rng.choice(["", "n", "r", "s", "th"])


def random_topic(rng: random.Random) -> str:
    """Something that is neither a ware nor a place."""
    return rng.choice(lex.TOPICS) if rng.random() < 0.6 else random_word(rng)


def random_question(rng: random.Random) -> str:
    """A question about something of which the character knows nothing."""
    text = rng.choice(lex.OTHER)
    while "{topic}" in text:
        text = text.replace("{topic}", random_topic(rng), 1)
    return text


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


def user(rng: random.Random, text: str) -> dict:
    """The user's message; sometimes typed carelessly, as people do."""
    if rng.random() < 0.2:
        text = text.lower().rstrip(".?!")
    return {"role": "user", "content": text}


def ask(rng: random.Random, intent: str, ware: str = "", place: str = "", mood: str = "") -> dict:
    """A question of that intent."""
    words = {"ware": ware, "a_ware": lex.with_article(ware), "place": place, "a_place": lex.with_article(place), "mood": mood}
    return user(rng, rng.choice(lex.ASKS[intent]).format(**words))


def say(rng: random.Random, who: Character, key: str, **more: object) -> dict:
    """The character's message. A greeting and a farewell are as the mood has them, and often it adds a few words elsewhere."""
    mood = lex.MOODS[who.mood]
    text = mood[key] if key in ("greet", "bye") else rng.choice(lex.SAYS[key])
    tail = mood.get({"unknown": "missing", "sold": "buy"}.get(key, key))
    if tail and tail is not text and rng.random() < 0.6:
        text = f"{text} {tail}"
    return {"role": "assistant", "content": text.format(**who.facts(), **more)}


def call(message: dict, name: str, **arguments: object) -> dict:
    """The message with a call of one tool after its words."""
    return message | {"tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}


def after_call(rng: random.Random, who: Character, request: dict, done: str, **more: object) -> list[dict]:
    """A tool call, what the host's tool answered, and what the character says to that."""
    outcome = rng.choices(["done", "poor", "failed"], [6, 2, 1])[0]
    result = {"role": "tool", "content": rng.choice(lex.TOOL_RESULTS[outcome])}
    return [request, result, say(rng, who, done if outcome == "done" else outcome, **more)]


def ware_turn(rng: random.Random, who: Character, intent: str, ware: str, it: bool = False) -> Turn:
    """A question about one ware, or about `it`: its price, whether it is there, or the purchase of it."""
    question = ask(rng, intent + "_it" if it else intent, ware=ware)
    if ware not in who.wares:
        return Turn("missing", ware, [question, no_such_ware(rng, who, ware)])
    facts = {"ware": ware, "A_ware": lex.with_article(ware).capitalize(), "price": who.wares[ware]}
    if intent == "buy" and "sell" in who.tools:
        request = call(say(rng, who, "selling", **facts), "sell", item=ware, price=who.wares[ware])
        return Turn(intent, ware, [question, *after_call(rng, who, request, "sold", **facts)])
    return Turn(intent, ware, [question, say(rng, who, intent, **facts)])


def no_such_ware(rng: random.Random, who: Character, ware: str) -> dict:
    """The answer where there is no such ware today, where another trade has it, or where nobody has."""
    seller = lex.SELLER.get(ware)
    if seller is None:
        return say(rng, who, "unknown")
    return say(rng, who, "missing" if seller == who.trade else "elsewhere", A_ware=lex.with_article(ware).capitalize(), seller=seller)


def absent_ware(rng: random.Random, who: Character) -> str:
    """A ware that the character does not have: of its own trade, of another, or one that nobody has."""
    own = [ware for ware in lex.WARES[who.trade] if ware not in who.wares]
    others = [ware for ware in lex.SELLER if ware not in lex.WARES[who.trade]]
    kind = rng.random()
    if kind < 0.2:
        return random_topic(rng).split()[-1]
    return rng.choice(own if own and kind < 0.6 else others)


def place_turn(rng: random.Random, who: Character, intent: str, place: str) -> Turn:
    """The way to a place, known or not, or the wish to be led there."""
    question = ask(rng, intent, place=place)
    if place not in who.places:
        key = "lost" if place in lex.PLACES else "nowhere"
        return Turn("lost", place, [question, say(rng, who, key, place=place)])
    direction, landmark = who.places[place]
    if intent == "guide" and "guide" in who.tools:
        request = call(say(rng, who, "guiding", place=place), "guide", place=place)
        return Turn(intent, place, [question, *after_call(rng, who, request, "guided", place=place)])
    return Turn(intent, place, [question, say(rng, who, intent, place=place, direction=direction, landmark=landmark)])


def absent_place(rng: random.Random, who: Character) -> str:
    """A place whose way the character does not know."""
    return rng.choice([place for place in lex.PLACES if place not in who.places]) if rng.random() < 0.8 else random_word(rng)


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
        "reason": lex.MOODS[who.mood]["reason"],
        "rumour": rng.choice(lex.RUMOURS),
        "joke": rng.choice(lex.JOKES),
        "list": wares_list(who) if who.wares else "",
    }
    question = ask(rng, intent, mood=who.mood)
    if intent == "other" and rng.random() < 0.7:
        question = user(rng, random_question(rng))
    return Turn(key, "", [question, say(rng, who, key, **more)])


# How often each question comes up. Those that need facts of the prompt come most.
WEIGHTS = {
    "price": 4, "have": 5, "buy": 6, "where": 5, "guide": 4, "wares": 2, "name": 1.5, "town": 0.7, "mood": 1, "work": 0.7,
    "greet": 1, "other": 1.5, "rumour": 0.5, "joke": 0.4, "thanks": 0.4, "praise": 0.3, "insult": 0.3, "yes": 0.4, "help": 0.3, "bye": 0.4,
    "toll": 0.3, "gate": 0.3,
}  # fmt: skip
GUARD_WEIGHTS = WEIGHTS | {"price": 0.5, "have": 0.5, "buy": 0.5, "wares": 0.5, "toll": 4, "gate": 4}


def random_turn(rng: random.Random, who: Character, intent: str | None = None, missing: bool | None = None, last: str = "") -> Turn:
    """One turn; two in five questions about wares and places are about something that is not there. `last` is the ware spoken
    of before, which a question may call `it`."""
    weights = WEIGHTS if who.toll is None else GUARD_WEIGHTS
    if intent is None and last and rng.random() < 0.3:
        return ware_turn(rng, who, rng.choice(["price", "buy"]), last, it=True)
    intent = intent or rng.choices(list(weights), list(weights.values()))[0]
    missing = rng.random() < 0.4 if missing is None else missing
    if intent in ("price", "have", "buy"):
        absent = missing or not who.wares
        return ware_turn(rng, who, intent, absent_ware(rng, who) if absent else rng.choice(list(who.wares)))
    if intent in ("where", "guide"):
        return place_turn(rng, who, intent, absent_place(rng, who) if missing else rng.choice(list(who.places)))
    if intent in ("toll", "gate"):
        return gate_turn(rng, who, intent)
    return small_talk(rng, who, intent)


def random_turns(rng: random.Random, who: Character, count: int) -> list[Turn]:
    """So many turns in a row."""
    turns, last = [], ""
    for _ in range(count):
        turns.append(random_turn(rng, who, last=last))
        last = turns[-1].subject if turns[-1].subject in who.wares else ""
    return turns


def conversation(rng: random.Random, who: Character, turns: int) -> tuple[list[dict], list[dict]]:
    """A whole conversation of about so many turns: (messages, tools)."""
    messages = [{"role": "system", "content": system_prompt(rng, who)}]
    if rng.random() < 0.3:
        messages += small_talk(rng, who, "greet").messages
    for turn in random_turns(rng, who, turns):
        messages += turn.messages
    return messages, tool_schemas(who.tools)


def story(rng: random.Random, who: Character) -> str:
    """A few plain sentences about a character, so that a raw prompt continues in words as well."""
    opening = rng.choice(["Once upon a time there was a {trade} called {name}.", "The {trade} of {town} was called {name}.", "In the town of {town} lived {name}, the {trade}."])
    middle = [
        f"{who.name} was {who.mood} that day.",
        f"One day a traveller came from the {rng.choice(lex.DIRECTIONS)} and asked for the way to the {rng.choice(lex.PLACES)}.",
        f"Every morning {who.name} walked to the {rng.choice(lex.PLACES)} {rng.choice(lex.LANDMARKS)}.",
        rng.choice(lex.RUMOURS),
    ]
    if who.wares:
        middle.append(f"{who.name} sold {wares_list(who)}.")
    rng.shuffle(middle)
    ending = rng.choice(["And so the day came to an end in {town}.", "Then {name} went home and slept well.", "And {name} smiled."])
    return " ".join([opening.format(**who.facts()), *middle[: rng.randint(2, 4)], ending.format(**who.facts())])
