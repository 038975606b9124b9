"""What `transformers` renders for every fixture template and conversation, as hashes: tests/data/chat/expected.json.

    .venv/bin/python tools/golden/chat.py ../shared/fixtures/chat-templates [template conversation]

With a template and a conversation it prints that rendering instead. The conversations are ours, in tests/data/chat/conversations.json.
"""

import datetime
import json
import sys
from pathlib import Path

from transformers.utils import chat_template_utils

DATA = Path(__file__).parents[2] / "tests/data/chat"
# The moment that the test gives to its renderings, too.
NOW = 1_767_323_045


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc)


chat_template_utils.datetime = FixedDate


def render(source, case):
    """The prompt, or None where the template refuses the conversation."""
    options = {"add_generation_prompt": True, **case.get("options", {})}
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[case["messages"]], tools=case.get("tools"), chat_template=source,
            bos_token="<s>", eos_token="</s>", unk_token="<unk>", **options)
        return rendered[0]
    except Exception as error:  # whatever it is, Python's user gets no prompt
        print(f"    refused: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
        return None


def fnv(text):
    """FNV-1a with 64 bits, and the length: enough to notice any difference."""
    value = 0xCBF29CE484222325
    data = text.encode()
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}-{len(data)}"


def main():
    folder = Path(sys.argv[1])
    cases = json.loads((DATA / "conversations.json").read_text())
    if len(sys.argv) == 4:
        text = render((folder / sys.argv[2]).read_text(), cases[sys.argv[3]])
        print(text if text is not None else "(refused)", end="")
        return
    expected = {}
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text()
        print(path.name, file=sys.stderr)
        results = {name: render(source, case) for name, case in cases.items()}
        expected[path.name] = {
            "template": fnv(source),
            "cases": {name: text if text is None else fnv(text) for name, text in results.items()},
        }
    (DATA / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(sum(len(e["cases"]) for e in expected.values()), "renderings", file=sys.stderr)


main()
