"""What a run found: as lines while it goes on, as a Markdown table, as JSON, as a chart. Used by run.py."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Instructions that decide what kernels can do.
FLAGS = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "asimddp", "i8mm")


def machine(peer: str, kernels: str, limits: dict[int, dict[str, float]]) -> dict:
    """Where and with what a run was made."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    field = lambda name: next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith(name)), "")
    git = lambda *command: subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    flags = field("flags").split() or field("Features").split()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else ""),
        "cpu": f"{field('model name') or platform.processor()} (family {field('cpu family')}, model {field('model')})",
        "cpus": os.cpu_count(),
        "instructions": [flag for flag in FLAGS if flag in flags],
        "system": f"{platform.system()} {platform.release()}",
        "kernels": "best" if kernels == "-" else kernels,
        "peer": f"llama-cpp-python, {peer}",
        "limits": limits,
    }


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def share(row: dict) -> str:
    """Of the machine's limit."""
    if "of_bandwidth" in row:
        return f"{row['of_bandwidth']:.0%} of read bandwidth"
    if "of_multiply" in row:
        return f"{row['gmac_s']:.0f} GMAC/s, {row['of_multiply']:.0%} of int8 multiply"
    return ""


def line(row: dict) -> str:
    values = f"{number(row['ours'])} | {number(row['theirs'])} {row['unit']} | **{row['ratio']:.2f}**"
    return f"| {row['file']} | {row['threads']} | {row['what']} | {values} | {share(row)} |"


def table(machine: dict, rows: list[dict]) -> str:
    facts = [f"- {key}: {value}" for key, value in machine.items()]
    head = ["| file | threads | what | ours | llama.cpp, or the peer named | ratio (above 1 is ours) | ours, of the machine |", "|---|---|---|---|---|---|---|"]
    return "\n".join([*facts, "", *head, *map(line, rows)]) + "\n"


def chart(rows: list[dict]) -> str:
    """The ratios as bars, as SVG text: readable on light and dark pages."""
    left, bar, step, width = 330, 14, 20, 900
    longest = max(2.0, *(row["ratio"] for row in rows))
    scale = (width - left - 60) / longest
    at = lambda ratio: left + ratio * scale
    height = step * len(rows) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#777">',
        f'<text x="{left}" y="16">speed relative to llama.cpp = 1; same file, same threads, same run</text>',
    ]
    for i, row in enumerate(rows):
        y = 28 + i * step
        label = f"{row['file']}, {row['what']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"
        colour = "#2a78c8" if row["ratio"] >= 1 else "#c8642a"
        parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{row["ratio"] * scale:.1f}" height="{bar}" fill="{colour}"/>')
        parts.append(f'<text x="{at(row["ratio"]) + 5:.1f}" y="{y + 11}">{row["ratio"]:.2f}</text>')
    parts.append(f'<path d="M{at(1):.1f} 22V{height - 20}" stroke="#777" stroke-dasharray="3 3"/></svg>')
    return "\n".join(parts) + "\n"


def merged(earlier: list[dict], rows: list[dict]) -> list[dict]:
    """`rows`, and those of `earlier` that were not measured again, by file and threads: a long set may be measured a file at a time."""
    key = lambda row: (row["file"], -row["threads"], row["what"])
    kept = {key(row): row for row in [*earlier, *rows]}
    return sorted(kept.values(), key=lambda row: key(row)[:2])


def record(folder: Path, machine: dict, rows: list[dict]) -> None:
    """Writes `DATE-COMMIT.json` (adds to it, if it is there), and the table and the chart of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine['date']}-{machine['commit'].rstrip('+')}-{machine['kernels']}.json"
    if path.exists():
        rows = merged(json.loads(path.read_text())["rows"], rows)
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    (folder / f"latest-{machine['kernels']}.md").write_text(table(machine, rows))
    (folder / f"ratios-{machine['kernels']}.svg").write_text(chart(rows))
