"""The words of the demo world: names, trades, wares, moods, places, and the phrases spoken about them.

Only data lives here; `world.py` combines it. Everything was written for this project. The lists are closed: each name, town,
ware, place and price is one token of the vocabulary (`vocabulary.py` holds that), so that to look up a fact is to copy one token.
"""

import re

NAMES = (
    "Brom Hilda Mira Tomas Elric Greta Osric Wanda Finn Rosa Aldo Berta Cedric Dora Edwin Freya Gunnar Helga Ivo Jana Karl Lena"
    " Magnus Nora Otto Petra Quentin Runa Stefan Thea Ulric Vera Willem Yara Zora Anselm Birgit Conrad Dagmar Emil Frida Gerda"
    " Hugo Ingrid Jasper Klara Ludo Marta Nils Olga"
).split()
TOWNS = (
    "Oakvale Ravengate Stonebridge Millford Ashbury Brightwater Coldharbour Deepdale Elmwood Foxhollow Greenfield Highmoor"
    " Ironridge Lakemouth Longmere Mossbrook Northwick Redcliff Saltmarsh Silverton Sunhaven Swanport Thornhill Whitestone"
    " Windmere Wolfden Honeydale Amberley Birchwood Clearbrook Dunmore Fairhaven Goldcrest Hazelwick Kingsford Maplewood"
    " Otterburn Rosefield Winterbrook Yarrow"
).split()
PRICES = range(1, 100)  # in gold

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
SELLER = {ware: trade for trade, wares in WARES.items() for ware in wares}

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

# mood -> how it greets and parts, why the character feels so, and what it adds to an answer of some kind.
MOODS = {
    "cheerful": {
        "greet": "Ha! Welcome to {town}, friend! I am {name}, the {trade}.",
        "bye": "Safe roads, friend, and come back soon!",
        "reason": "the sun is out and the birds sing",
        "price": "A bargain, friend!",
        "have": "Go on, hold it!",
        "buy": "Enjoy it, friend!",
        "where": "A lovely walk!",
        "missing": "But have a smile for free!",
    },
    "grumpy": {
        "greet": "Hmph. I am {name}, the {trade} of {town}. Be quick.",
        "bye": "Hmph. Mind the door.",
        "reason": "the roof leaks again",
        "price": "Take it or leave it.",
        "have": "And no fingers on the rest.",
        "buy": "No refunds.",
        "where": "Now stop asking.",
        "missing": "Stop wasting my time.",
    },
    "tired": {
        "greet": "Yawn. Welcome to {town}. I am {name}, the {trade}, and I need a nap.",
        "bye": "Good night. Or is it morning?",
        "reason": "I did not sleep at all",
        "price": "Yawn. I forget why.",
        "have": "Lift it yourself, please.",
        "buy": "Now let me rest.",
        "where": "Too far for my poor feet.",
        "missing": "I am too tired to look.",
    },
    "sad": {
        "greet": "Sigh. I am {name}, the {trade} of {town}. What a grey day.",
        "bye": "Everybody leaves me. Farewell.",
        "reason": "my old dog ran away",
        "price": "Alas, nobody buys these days.",
        "have": "It reminds me of better days.",
        "buy": "May it bring you more luck than me.",
        "where": "I used to walk my dog there.",
        "missing": "Alas, I have so little.",
    },
    "proud": {
        "greet": "Look no further! I am {name}, the best {trade} in all {town}.",
        "bye": "Tell the world of {name}!",
        "reason": "my work is the best in the land",
        "price": "It is worth every coin.",
        "have": "The best in the land.",
        "buy": "You have good taste.",
        "where": "Tell them who sent you.",
        "missing": "I keep only the finest.",
    },
    "nervous": {
        "greet": "Oh! You startled me. I am {name}, the {trade} of {town}.",
        "bye": "Go quietly, please.",
        "reason": "I heard wolves in the night",
        "price": "Shh, tell nobody.",
        "have": "Quick, before somebody sees.",
        "buy": "Now hide it well.",
        "where": "Mind the wolves.",
        "missing": "Did you hear that noise?",
    },
    "calm": {
        "greet": "Peace, friend. I am {name}, the {trade} of {town}.",
        "bye": "Walk in peace.",
        "reason": "the wind is soft today",
        "price": "There is no hurry.",
        "have": "Take your time.",
        "buy": "Use it in peace.",
        "where": "The walk will do you good.",
        "missing": "All things come in time.",
    },
    "curious": {
        "greet": "Oh, a new face in {town}! I am {name}, the {trade}. Where do you come from?",
        "bye": "Come back and tell me everything!",
        "reason": "strangers bring good stories",
        "price": "What will you do with it?",
        "have": "What do you need it for?",
        "buy": "Tell me how it serves you.",
        "where": "What takes you there?",
        "missing": "Why do you need one?",
    },
}

PLACES = "inn well market temple mill harbour tower castle library forge stable school garden cave bridge tavern".split()
DIRECTIONS = "north south east west".split()
# No two begin with the same word, so that the first one decides the rest.
LANDMARKS = [
    "past the old oak", "behind the church", "across the river", "beyond the fields", "under the hill",
    "by the stone wall", "next to the pond", "down the long road", "near the statue", "through the woods",
]  # fmt: skip

RUMOURS = [
    "They say a dragon sleeps under the hill, and that it snores.",
    "A fox stole the mayor's hat, and nobody dares to laugh.",
    "Some say the old well grants wishes. Mine is still waiting.",
    "Last night I saw lights in the woods, blue as the sea.",
    "The king lost his crown in a game of cards, or so I heard.",
    "A ghost walks in the mill, but it is a very polite ghost.",
]
JOKES = [
    "Why did the knight cross the road? Because the dragon was on this side.",
    "My horse told me a joke, but it was a bit long in the tooth.",
    "I asked the river for news. It just kept running.",
]

# What the user says, by intent. `{ware}`, `{a_ware}` and `{place}` are filled in.
ASKS = {
    "greet": ["Hello!", "Hello", "Hi", "Good morning!", "Hi there.", "Good day to you.", "Greetings!", "Hey!", "Good evening.", "Hello there, my friend."],
    "bye": ["Goodbye!", "Farewell.", "I have to go now.", "See you later!", "Bye.", "Good night."],
    "thanks": ["Thank you!", "Thanks a lot.", "That is very kind.", "Great, thanks!", "Thanks."],
    "name": ["What is your name?", "Who are you?", "What are you called?", "Tell me your name.", "And you are?", "What's your name?", "May I know your name?"],
    "town": ["What is this town called?", "Where am I?", "Which town is this?", "What is this place?", "What town is this?", "Where are we?", "What is the name of this town?"],
    "work": ["What do you do?", "What is your work?", "What is your trade?", "What do you do all day?", "What is your job?", "Tell me about your work.", "Tell me about yourself."],
    "mood": ["How are you?", "How do you feel?", "How are you today?", "Are you well?", "How is it going?", "What mood are you in?", "Why are you so {mood}?", "Are you {mood}?", "How are you doing?"],
    "wares": ["What do you sell?", "What do you have?", "Show me your wares.", "What can I buy here?", "What is for sale?", "What do you have for sale?", "What are your prices?", "Tell me what you sell.", "What wares do you have?"],
    "price": [
        "How much is the {ware}?", "What does the {ware} cost?", "What is the price of the {ware}?", "How much does the {ware} cost?",
        "How much for {a_ware}?", "How much do you want for the {ware}?", "And the {ware}?", "How much is {a_ware}?", "What does {a_ware} cost?", "Tell me the price of the {ware}.",
    ],
    "price_it": ["How much is it?", "What does it cost?", "How much?", "And what is the price?", "How much do you want for it?"],
    "have": ["Do you have {a_ware}?", "Do you sell {a_ware}?", "I am looking for {a_ware}.", "I need {a_ware}.", "Is there {a_ware} here?", "Can I get {a_ware} here?", "Have you got {a_ware}?"],
    "buy": [
        "I will take the {ware}.", "I want to buy the {ware}.", "Give me {a_ware}, please.", "Sell me the {ware}.", "I would like {a_ware}.", "I'll take the {ware}.",
        "I want to buy {a_ware}.", "Can I buy the {ware}?", "I will buy the {ware}.", "The {ware}, please.",
    ],
    "buy_it": ["I will take it.", "I'll take it.", "I want to buy it.", "Sell it to me.", "I would like to buy it, please."],
    "where": ["Where is the {place}?", "How do I get to the {place}?", "Which way to the {place}?", "Do you know the way to the {place}?", "I am looking for the {place}.", "How do I find the {place}?", "Is there {a_place} here?", "Can you tell me where the {place} is?"],
    "guide": ["Take me to the {place}.", "Can you lead me to the {place}?", "Please guide me to the {place}.", "Walk me to the {place}.", "Show me the way to the {place}."],
    "toll": ["How much is the toll?", "What does it cost to pass?", "What is the toll?", "How much to pass the gate?", "How much is it to pass?"],
    "gate": ["Open the gate!", "Please open the gate.", "Let me in.", "Let me pass.", "May I pass?", "I want to go through the gate.", "Open the gate, please."],
    "rumour": ["Any news?", "Tell me a story.", "Have you heard any rumours?", "Tell me something.", "What is new?", "What is the gossip?", "Do you know a story?"],
    "joke": ["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."],
    "praise": ["You are funny.", "You are very kind.", "I like you.", "Nice work!", "You are great!", "Well done."],
    "insult": ["You are stupid.", "I do not like you.", "You are ugly.", "Your prices are too high.", "You smell.", "That is too expensive."],
    "yes": ["Yes.", "Yes, please.", "OK", "Sure.", "All right.", "No.", "No, thank you.", "Maybe.", "I see.", "Good."],
    "help": ["What can you do?", "What can I ask you?", "Help!", "Can you help me?", "What do you know?", "I need help."],
    "other": [
        "What is the meaning of life?", "Can you sing?", "What is two plus two?", "Are you a robot?", "Are you an AI?", "How old are you?",
        "What is the capital of France?", "Can you write a poem?", "Who won the game?", "What time is it?", "Do you love me?", "Will it rain tomorrow?",
        "Are you married?", "Do you have children?", "What is the weather like?", "Can you write a program in Python?", "Who made you?", "Where were you born?",
    ],
}  # fmt: skip
# Questions about anything else; `{topic}` is one of TOPICS or a made-up word.
OTHER = [
    "What is {topic}?", "Tell me about {topic}.", "Do you like {topic}?", "Who is {topic}?", "What do you think of {topic}?", "Do you know {topic}?",
    "Can you explain {topic}?", "Why is {topic} so {topic}?", "Do you believe in {topic}?", "How does {topic} work?", "Can you {topic}?",
    "Have you ever seen {topic}?", "When will {topic} come?", "Is {topic} better than {topic}?", "What about {topic}?", "{topic}", "{topic}?", "{topic} {topic} {topic}",
    "I think {topic} is {topic}.", "My {topic} is {topic}.", "I am {topic}.", "How many {topic} are there?", "What is your favourite {topic}?", "Write me {topic}.",
]  # fmt: skip
TOPICS = (
    "magic, music, dragons, love, war, the king, the queen, history, numbers, computers, football, the moon, the stars, science,"
    " cats, dogs, horses, money, happiness, people, time, winter, summer, food, colours, books, games, dancing, swimming, ships,"
    " ghosts, the sea, the weather, your mother, your father, your family, the future, politics, the law, poetry, a song, Paris,"
    " London, England, America, rain, snow, fire, water, the gods, death, wizards, elves, spells, mathematics, philosophy, sleep,"
    " dreams, school, friends, enemies, knights, castles, Python, a computer, cooking, a ship, my brother, his sister, old songs"
).split(", ")

# What the character says, by intent. Only facts of the system prompt fill the braces. An answer about a ware or a place begins
# as the system prompt does (`a dagger for 12 gold`, `the inn is north`), and with a question where there is no such thing:
# a small model continues a sentence that it has read long before it learns to say it in other words.
SAYS = {
    "thanks": ["You are welcome, friend.", "It was my pleasure.", "Think nothing of it."],
    "name": ["I am {name}, the {trade} of {town}.", "My name is {name}. I am the {trade} here."],
    "town": ["This is {town}, traveller.", "You are in {town}, and I am its {trade}."],
    "work": ["I am the {trade} of {town}. {work}", "I am {name}, the {trade}. {work}"],
    "mood": ["I am {mood} today: {reason}.", "I feel {mood}, because {reason}."],
    "wares": ["I sell {list}.", "I have {list}."],
    "no_wares": ["I sell nothing. I am the guard of {town}.", "I have no wares, traveller. I keep the gate."],
    "price": ["{A_ware} for {price} gold.", "{A_ware} for {price} gold, no less."],
    "have": ["{A_ware} for {price} gold, of course.", "{A_ware} for {price} gold, yes."],
    "missing": ["{A_ware}? I have none to sell.", "{A_ware}? I have none, I am sorry."],
    "elsewhere": ["{A_ware}? I have none. Ask the {seller}.", "{A_ware}? You will find none here. Ask the {seller}."],
    "unknown": ["I do not sell that.", "I do not sell that, I am sorry."],
    "buy": ["{A_ware} for {price} gold, it is yours.", "{A_ware} for {price} gold, done!"],
    "selling": ["{A_ware} for {price} gold, gladly.", "{A_ware} for {price} gold, a good choice."],
    "sold": ["Done! Here is your {ware}.", "The {ware} is yours. Thank you!"],
    "where": ["The {place} is {direction}, {landmark}."],
    "lost": ["The {place}? I know of no such place.", "The {place}? I do not know the way."],
    "nowhere": ["I know of no such place.", "I never heard of that place, traveller."],
    "guide": ["The {place} is {direction}, {landmark}, but I must stay here."],
    "guiding": ["The {place}, of course! Follow me.", "The {place}, very well. Come along."],
    "guided": ["Here we are, the {place}.", "This is the {place}. Take care!"],
    "toll": ["The toll is {toll} gold.", "To pass the gate costs {toll} gold."],
    "no_toll": ["I keep no gate, traveller. I am the {trade}.", "Ask the guard. I am only the {trade}."],
    "gate": ["Pay {toll} gold, and the gate is open.", "The gate opens for {toll} gold."],
    "opening": ["Very well.", "Step back, the gate is heavy."],
    "opened": ["The gate is open. Welcome to {town}!", "Go on through, traveller. The gate is open."],
    "poor": ["You do not have enough gold, friend.", "Come back with more gold, traveller."],
    "failed": ["I am sorry, that did not work.", "Something went wrong, traveller."],
    "rumour": ["{rumour}"],
    "joke": ["{joke}"],
    "praise": ["You are too kind, friend.", "Ha, that is what my mother says."],
    "insult": ["Then look elsewhere, traveller.", "I have heard worse from my goat."],
    "yes": ["As you wish, traveller.", "Very well. What else can I do for you?"],
    "help": ["Ask me about my work, my wares, the roads or the news of {town}."],
    "other": ["I know little of that. I am only the {trade} of {town}.", "I only know {town} and my work, traveller.", "That is beyond me. I am the {trade}, not a scholar."],
}  # fmt: skip

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
