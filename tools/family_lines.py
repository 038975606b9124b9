"""Prints how many lines each family takes: its traits, its row for Hugging Face directories, its golden configuration, its tests.

    python tools/family_lines.py

Fails if a family takes more than 120: then the decoder lacks something that families should share.
"""

import re
import sys
from pathlib import Path

MOST = 120
ROOT = Path(__file__).parents[1]


def items(path: str, start: str) -> dict[str, list[str]]:
    """The lines of each item of a Rust file that begins with `start NAME`, its comments included, by name."""
    found, comments, name = {}, [], None
    for line in (ROOT / path).read_text().splitlines():
        if name is None and (match := re.match(start, line)):
            name, found[match[1]] = match[1], comments + [line]
        elif name:
            found[name].append(line)
        comments = comments + [line] if name is None and line.startswith(("//", "#[")) else []
        if name and (line == "}" or start.startswith("const") and line.endswith(";")):
            name = None
    return found


def python_functions(path: str) -> dict[str, list[str]]:
    """The lines of each function of a Python file."""
    found, name = {}, None
    for line in (ROOT / path).read_text().splitlines():
        if match := re.match(r"def (\w+)\(", line):
            name = match[1]
        elif line and not line.startswith((" ", ")")):
            name = None
        if name and line:
            found.setdefault(name, []).append(line)
    return found


def main() -> None:
    traits = items("src/model/family.rs", r"const (\w+): Family =")
    rows = items("src/model/hf/families.rs", r"const (\w+): HfFamily =")
    tests = items("tests/golden.rs", r"fn (\w+)\(\) \{")
    golden = python_functions("tools/golden/families.py")
    worst = 0
    for name in sorted(traits):
        own = re.compile(rf"{name.lower().replace('_', '')}[_a-z0-9]*$")
        lines = len(traits[name]) + len(rows.get(name, []))
        lines += sum(len(body) for key, body in golden.items() if own.match(key.replace("_", "")))
        lines += sum(len(body) for key, body in tests.items() if key.replace("_", "").startswith(name.lower().replace("_", "")))
        print(f"{name.lower():12} {lines:4}")
        worst = max(worst, lines)
    if worst > MOST:
        sys.exit(f"a family takes {worst} lines, expected {MOST} at most")


if __name__ == "__main__":
    main()
