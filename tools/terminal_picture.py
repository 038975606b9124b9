#!/usr/bin/env python3
"""Runs a program in a terminal, types lines into it, and writes what was seen as an SVG picture that plays itself once.

    python3 tools/terminal_picture.py docs/chat.svg "make -s chat" "Hello!" "What do you sell?" ...

Characters appear in the order and at about the pace in which they came; a viewer without animation sees the end.
"""

import os
import pty
import select
import sys
import time
from pathlib import Path
from xml.sax.saxutils import escape

COLUMNS, ROWS = 100, 40
FONT_SIZE, LINE_HEIGHT, CHARACTER_WIDTH, MARGIN = 14, 20, 8.43, 16
# Typing speed, and the pause that says that the program waits for input.
SECONDS_PER_KEY, QUIET_SECONDS = 0.04, 0.7
# What is too fast to be seen is slowed down: at most so many characters a second.
MOST_PER_SECOND = 150


def record(command: str, lines: list[str]) -> list[tuple[float, str]]:
    """(seconds, text) as it came, with what was typed, which the terminal echoes."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp("sh", ["sh", "-c", command])
    seen, clock, waiting = [], 0.0, list(lines)
    while True:
        start = time.monotonic()
        ready, _, _ = select.select([terminal], [], [], QUIET_SECONDS)
        clock += time.monotonic() - start
        if ready:
            try:
                text = os.read(terminal, 4096).decode(errors="replace")
            except OSError:  # the program has ended
                return seen
            seen.append((clock, text))
        elif waiting:
            for key in waiting.pop(0) + "\n":
                os.write(terminal, key.encode())
                time.sleep(SECONDS_PER_KEY)
                clock += SECONDS_PER_KEY
                if select.select([terminal], [], [], 0.01)[0]:
                    seen.append((clock, os.read(terminal, 4096).decode(errors="replace")))
        else:
            os.write(terminal, b"\x04")  # end of input


def screen(seen: list[tuple[float, str]]) -> list[list[tuple[float, str]]]:
    """The lines of the screen; each character with the time when it appeared last."""
    lines, column, clock = [[]], 0, 0.0
    for at, text in seen:
        clock = max(clock, at)
        for character in text:
            if character == "\n":
                lines.append([])
                column = 0
            elif character == "\r":
                column = 0
            elif character.isprintable():
                clock += 1 / MOST_PER_SECOND if len(text) > 1 else 0
                line = lines[-1]
                line.extend([(clock, " ")] * (column + 1 - len(line)))
                line[column] = (clock, character)
                column += 1
    return lines


def svg(title: str, lines: list[list[tuple[float, str]]]) -> str:
    """The picture: runs of characters that appeared together are one text element each."""
    width, height = COLUMNS * CHARACTER_WIDTH + 2 * MARGIN, (len(lines) + 1) * LINE_HEIGHT + 2 * MARGIN
    style = f"text{{font:{FONT_SIZE}px ui-monospace,Menlo,Consolas,monospace;fill:#d6deeb;white-space:pre}} .p{{fill:#7fdbca}}"
    style += " @media (prefers-reduced-motion:no-preference){text.t{opacity:0;animation:a 0s forwards}} @keyframes a{to{opacity:1}}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img"><title>{escape(title)}</title>']
    parts.append(f'<style>{style}</style><rect width="100%" height="100%" rx="8" fill="#011627"/>')
    for row, line in enumerate(lines):
        y = MARGIN + (row + 1) * LINE_HEIGHT
        typed = "p" if "".join(c for _, c in line).lstrip().startswith((">", "$")) else ""
        for start, run, at in runs(line):
            x = MARGIN + start * CHARACTER_WIDTH
            parts.append(f'<text class="t {typed}" x="{x:.1f}" y="{y}" style="animation-delay:{at:.2f}s">{escape(run)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def runs(line: list[tuple[float, str]]):
    """(column, text, seconds) of the words of a line, each of which appears as a whole."""
    start = 0
    for column in range(1, len(line) + 1):
        if column == len(line) or (line[column - 1][1] == " " and line[column][1] != " "):
            text = "".join(character for _, character in line[start:column]).rstrip()
            if text:
                yield start, text, max(at for at, _ in line[start:column])
            start = column


def main() -> None:
    out, command, *lines = sys.argv[1:]
    Path(out).write_text(svg(command, screen([(0.0, f"$ {command}\n"), *record(command, lines)])))


if __name__ == "__main__":
    main()
