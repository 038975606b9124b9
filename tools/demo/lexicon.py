"""The words of the demo world: names, trades, wares, moods, places, and the phrases spoken about them.

Only data lives here; `world.py` combines it. Everything was written for this project.
"""

import re

# Person and town names are made of two parts, so that there are far more names than any sample shows:
# a model that learns them by heart gains nothing, one that copies them from the system prompt gains all.
PERSON_HEADS = "Al Bel Bor Bran Cor Dal Dor Ed El Fal Fen Gar Gil Hal Hil Is Jor Kat Len Lor Mar Mir Nor Ol Per Ros Sel Tam Tor Wil".split()
PERSON_TAILS = "a an ard by da den dric fa gar go in la lin lo mir mund na nor ra ric rin ta ton va wen win".split()
TOWN_HEADS = "Ash Birch Bright Clear Cold Deep Elm Fair Fox Green Grey High Honey Iron Lake Long Moss North Oak Raven Red Salt Silver Stone Sun Swan Thorn White Wind Wolf".split()
TOWN_TAILS = "bridge brook bury dale field ford gate ham haven hill hollow mere mill mouth port ridge stead ton vale wick wood".split()
# What made-up names are put together from.
ONSETS = "b br c ch cr d dr f fl g gl gr h j k kr l m n p pr qu r s sh sk st t th tr v w x y z".split()
CODAS = "b ck d f g k l ld lf lm lth m n nd ng p r rd rn s sh sk st t th x z".split()

# trade -> what it sells. A guard sells nothing: a guard keeps a gate, and takes a toll.
WARES = {
    "smith": "dagger sword axe hammer horseshoe shield helmet chain spear kettle anvil knife".split(),
    "innkeeper": "ale cider stew soup bed bath pie supper wine breakfast pillow cheese".split(),
    "merchant": "rope lantern map cloak compass tent blanket mirror candle saddle barrel basket".split(),
    "healer": "potion salve bandage tonic herb elixir tea balm remedy powder charm cure".split(),
    "baker": "loaf cake bun tart biscuit pretzel roll pasty cookie waffle muffin pancake".split(),
    "fisher": "trout eel net salmon crab oyster hook rod boat herring bucket pearl".split(),
    "jeweller": "ring necklace amulet brooch crown bracelet ruby emerald opal chalice locket coin".split(),
    "guard": [],
}
ADJECTIVES = "iron silver golden old fine small great red blue green".split()

# trade -> what it says about its work.
WORK = {
    "smith": ["I hammer iron from dawn to dusk.", "My fire never goes out."],
    "innkeeper": ["I keep the hearth warm and the cups full.", "I hear every story that passes the door."],
    "merchant": ["I buy, I sell, and I travel when the roads are dry.", "My cart has seen more roads than a crow."],
    "healer": ["I mend what swords and winters break.", "I gather leaves when the moon is full."],
    "baker": ["I rise before the sun and bake for everyone.", "The whole street wakes to the smell of my oven."],
    "fisher": ["I cast my nets before the sun is up.", "The river and I are old friends."],
    "jeweller": ["I polish stones until they shine like stars.", "I turn a little gold into a lot of joy."],
    "guard": ["I watch the gate by day and by night.", "Nobody passes without a word from me."],
}

# mood -> what the character says before an answer.
MOODS = {
    "cheerful": ["Ha!", "What a fine day!"],
    "grumpy": ["Hmph.", "What now?"],
    "tired": ["Oh, my poor feet.", "Yawn."],
    "sad": ["Alas.", "Sigh."],
    "proud": ["Look no further!", "You have come to the right one."],
    "nervous": ["Oh! You startled me.", "Shh, not so loud."],
    "calm": ["Peace, friend.", "All in good time."],
    "curious": ["Oh, a new face!", "How interesting."],
}
# mood -> why. Said when somebody asks how the character is.
REASONS = {
    "cheerful": "the sun is out and the birds sing",
    "grumpy": "the roof leaks again",
    "tired": "I did not sleep at all",
    "sad": "my old dog ran away",
    "proud": "my work is the best in the land",
    "nervous": "I heard wolves in the night",
    "calm": "the wind is soft today",
    "curious": "strangers bring good stories",
}

PLACES = "inn well market temple mill harbour tower castle library forge stable school garden cave bridge tavern".split()
DIRECTIONS = "north south east west".split()
LANDMARKS = [
    "past the old oak", "behind the church", "across the river", "beyond the fields", "under the hill",
    "by the stone wall", "next to the pond", "down the long road", "near the statue", "through the woods",
]

RUMOURS = [
    "They say a dragon sleeps under the hill, and that it snores.",
    "A fox stole the mayor's hat, and nobody dares to laugh.",
    "Some say the old well grants wishes. Mine is still waiting.",
    "Last night I saw lights in the woods, blue as the sea.",
    "The king lost his crown in a game of cards, or so I heard.",
    "A ghost walks in the mill, but it is a very polite ghost.",
]

# What the user says, by intent. `{ware}`, `{a_ware}` and `{place}` are filled in.
ASKS = {
    "greet": ["Hello!", "Good morning!", "Hi there.", "Good day to you.", "Greetings!", "Hey!"],
    "bye": ["Goodbye!", "Farewell.", "I have to go now.", "See you later!", "Bye."],
    "thanks": ["Thank you!", "Thanks a lot.", "That is very kind.", "Great, thanks!"],
    "name": ["What is your name?", "Who are you?", "What are you called?", "Tell me your name.", "And you are?"],
    "town": ["What is this town called?", "Where am I?", "Which town is this?", "What is this place?", "What town is this?"],
    "work": ["What do you do?", "What is your work?", "What is your trade?", "What do you do all day?"],
    "mood": ["How are you?", "How do you feel?", "How are you today?", "Are you well?", "How is it going?", "What mood are you in?"],
    "wares": ["What do you sell?", "What do you have?", "Show me your wares.", "What can I buy here?", "What is for sale?"],
    "price": [
        "How much is the {ware}?", "What does the {ware} cost?", "What is the price of the {ware}?",
        "How much for {a_ware}?", "How much do you want for the {ware}?", "And the {ware}?",
    ],
    "have": ["Do you have {a_ware}?", "Do you sell {a_ware}?", "I am looking for {a_ware}.", "I need {a_ware}.", "Is there {a_ware} here?"],
    "buy": ["I will take the {ware}.", "I want to buy the {ware}.", "Give me {a_ware}, please.", "Sell me the {ware}.", "I would like {a_ware}."],
    "where": ["Where is the {place}?", "How do I get to the {place}?", "Which way to the {place}?", "Do you know the way to the {place}?", "I am looking for the {place}."],
    "guide": ["Take me to the {place}.", "Can you lead me to the {place}?", "Please guide me to the {place}.", "Walk me to the {place}."],
    "toll": ["How much is the toll?", "What does it cost to pass?", "What is the toll?", "How much to pass the gate?"],
    "gate": ["Open the gate!", "Please open the gate.", "Let me in.", "Let me pass.", "May I pass?", "I want to go through the gate."],
    "rumour": ["Any news?", "Tell me a story.", "Have you heard any rumours?", "Tell me something.", "What is new?"],
    "other": [
        "What is the meaning of life?", "Who is the king?", "Can you sing?", "What is two plus two?", "Do you like music?",
        "Are you a robot?", "Tell me about the war.", "Do you believe in magic?", "How old are you?", "What is the capital of France?",
        "Can you write a poem?", "Who won the game?", "What time is it?", "Do you love me?", "Will it rain tomorrow?", "Are you married?",
    ],
}

# What the character says, by intent. Only facts of the system prompt fill the braces. An answer about a ware or a place begins
# as the system prompt does (`a dagger for 12 gold`, `the inn is north`), and with a question where there is no such thing:
# a small model continues a sentence that it has read long before it learns to move a fact into another one.
SAYS = {
    "greet": ["Welcome to {town}! I am {name}, the {trade}.", "Good day, traveller. I am {name}, the {trade} of {town}."],
    "bye": ["Farewell, and safe roads!", "Come back to {town} soon.", "Until we meet again, traveller."],
    "thanks": ["You are welcome, friend.", "It was my pleasure.", "Think nothing of it."],
    "name": ["I am {name}, the {trade} of {town}.", "My name is {name}. I am the {trade} here."],
    "town": ["This is {town}, traveller.", "You are in {town}, and I am its {trade}."],
    "work": ["I am the {trade} of {town}. {work}", "I am the {trade} here. {work}"],
    "mood": ["I am {mood} today: {reason}.", "I feel {mood}, because {reason}."],
    "wares": ["I sell {list}.", "I have {list}."],
    "no_wares": ["I sell nothing. I am the guard of {town}.", "I have no wares, traveller. I keep the gate."],
    "price": ["{A_ware} for {price} gold, that is my price.", "{A_ware} for {price} gold, not a copper less."],
    "have": ["{A_ware} for {price} gold, take a look.", "{A_ware} for {price} gold, and a fine one."],
    "missing": ["{A_ware}? I am sorry, I have none.", "{A_ware}? I do not sell that, traveller.", "{A_ware}? Not here, I am afraid."],
    "buy": ["{A_ware} for {price} gold, and it is yours.", "{A_ware} for {price} gold, here you are."],
    "selling": ["{A_ware} for {price} gold, gladly.", "{A_ware} for {price} gold, a good choice."],
    "sold": ["Done! Here is your {ware}. Use it well.", "The {ware} is yours. Thank you!"],
    "where": ["The {place} is {direction}, {landmark}.", "The {place} is {direction}, {landmark}. You cannot miss it."],
    "lost": ["The {place}? I know of no such place.", "The {place}? I have never heard of it, traveller."],
    "guide": ["The {place} is {direction}, {landmark}, but I must stay here."],
    "guiding": ["The {place} is {direction}, {landmark}. Follow me!"],
    "guided": ["Here we are, the {place}.", "This is the {place}. Take care!"],
    "toll": ["The toll is {toll} gold.", "To pass the gate costs {toll} gold."],
    "no_toll": ["I keep no gate, traveller. I am the {trade}.", "Ask the guard. I am only the {trade}."],
    "gate": ["Pay {toll} gold, and the gate is open.", "The gate opens for {toll} gold."],
    "opening": ["Very well.", "Step back, the gate is heavy."],
    "opened": ["The gate is open. Welcome to {town}!", "Go on through, traveller. The gate is open."],
    "poor": ["You do not have enough gold, friend.", "Come back with more gold, traveller."],
    "failed": ["I am sorry, that did not work.", "Something went wrong, traveller."],
    "rumour": ["{rumour}"],
    "other": ["I know little of that. I am only the {trade} of {town}.", "That is beyond me, traveller. Ask the wise.", "What a question! I am the {trade}, not a scholar."],
}

# What a host's tool may answer, by what came of it.
TOOL_RESULTS = {
    "done": ["ok", "done", '{"ok":true}', '{"result":"ok"}', '{"status":"done"}'],
    "poor": ["not enough gold", '{"error":"not enough gold"}', '{"ok":false,"error":"not enough gold"}'],
    "failed": ["error", "failed", '{"ok":false}', '{"error":"failed"}'],
}

# The tools a host may offer: name -> (description, arguments with their JSON types).
TOOLS = {
    "sell": ("Sells one ware to the player.", {"item": "string", "price": "integer"}),
    "open_gate": ("Opens the town gate once the toll is paid.", {"toll": "integer"}),
    "guide": ("Walks the player to a place.", {"place": "string"}),
}


def with_article(noun: str) -> str:
    """`axe` -> `an axe`, `dagger` -> `a dagger`."""
    return ("an " if re.match("[aeiou]", noun) else "a ") + noun
