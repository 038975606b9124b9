#!/usr/bin/env python3
"""libinference and llama.cpp from the same files, in turns, in one run: medians, ratios, and shares of what the machine can do.

    python3 tools/bench/run.py [--quick] [--candle] [--peer SITE] [--kernels SET] [--threads 2,1] [--only TEXT] [--record]

Model files and the peer are made below build/. Needs `pip install gguf numpy`, a C compiler, and build/libinference.so (`make`).
"""

import argparse
import statistics
from pathlib import Path

import engine
import models
import report
from engine import Engine

DEMO = engine.ROOT / "models" / "demo.gguf"
QUICK = [(models.QWEN, "Q4_K_M"), (models.QWEN, "Q8_0")]
FULL = [(models.QWEN, mixture) for mixture in models.MIXTURES] + [(models.LLAMA, "Q4_K_M"), (models.LLAMA, "Q8_0")]

# candle is measured on these mixtures of the small shape.
CANDLE = ("Q4_K_M", "Q8_0", "Q4_0")

# Files of these are also opened with our `"mmap":true`.
MAPPED = ("Q8_0", "F16")

PROMPT = 512
ANSWER = 128
DEEP = 8192
TOGETHER = 32
FIRST = 16
FULL_CTX = 4096


class Bench:
    """Measures both engines in turns and collects rows."""

    def __init__(self, ours: Path, theirs: Path, kernels: str, quick: bool):
        self.ours, self.theirs, self.kernels, self.quick = ours, theirs, kernels, quick
        self.n_rounds = 3 if quick else 5
        self.rows: list[dict] = []

    def pair(self, flash: str) -> dict[str, Engine]:
        """Fresh processes: ours, and llama.cpp with flash attention "on" or "off"."""
        return {"ours": Engine(self.ours, self.kernels), "theirs": Engine(self.theirs, flash)}

    def better_flash(self, path: Path, n_threads: int, *command: object) -> str:
        """Whether llama.cpp is faster at `command` with or without flash attention."""
        seconds = {}
        for flash in ("on", "off"):
            theirs = Engine(self.theirs, flash)
            theirs.open(path, n_threads, 1024)
            theirs("prefill", 64)  # pages and buffers are there
            seconds[flash] = min(theirs(*command) for _ in range(2))
            theirs.end()
        return min(seconds, key=seconds.__getitem__)

    def rates(self, engines: dict[str, Engine], amount: float, *command: object, n_rounds: int = 0) -> dict[str, float]:
        """Units per second of each side: the median of the rounds."""
        seconds: dict[str, list[float]] = {side: [] for side in engines}
        for _ in range(n_rounds or self.n_rounds):
            for side, measured in engines.items():
                seconds[side].append(measured(*command))
        return {side: amount / statistics.median(times) for side, times in seconds.items()}

    def add(self, file: str, n_threads: int, what: str, unit: str, values: dict[str, float], **facts: float) -> None:
        row = {"file": file, "threads": n_threads, "what": what, "unit": unit, **values, **facts}
        # A time or a size is better when smaller; a ratio above 1 is always in our favour.
        smaller = unit in ("s", "MB")
        row["ratio"] = values["theirs"] / values["ours"] if smaller else values["ours"] / values["theirs"]
        self.rows.append(row)
        print(report.line(row), flush=True)

    def file(self, path: Path, shape: models.Shape, n_threads: int) -> None:
        """All rows of one file with so many threads."""
        limits, n_bytes, name = engine.limits(n_threads), models.weight_bytes(path), path.stem
        answer = ANSWER // 2 if self.quick else ANSWER
        deep = not self.quick and shape is models.QWEN and n_threads > 1
        engines = self.pair(self.better_flash(path, n_threads, "prefill", PROMPT))
        for measured in engines.values():
            measured.open(path, n_threads, DEEP + 256 if deep else 1024)
            measured("prefill", 64)  # pages and buffers are there
        prefill = self.rates(engines, PROMPT, "prefill", PROMPT)
        products = prefill["ours"] * models.products_per_token(shape) / 1e9
        ceiling = max(limits["avx2_gmac_s"], 0 if self.kernels == "avx2" else limits["vnni_gmac_s"])
        self.add(name, n_threads, f"prefill {PROMPT}", "tok/s", prefill, gmac_s=products, of_multiply=products / ceiling)
        for measured in engines.values():
            measured("fill", 32)
        decode = self.rates(engines, answer, "decode", answer)
        used = decode["ours"] * n_bytes / 1e9 / limits["read_gb_s"]
        self.add(name, n_threads, f"decode {answer}", "tok/s", decode, of_bandwidth=used)
        for n_sequences in (8, 16) if n_threads > 1 else ():
            together = self.rates(engines, n_sequences * TOGETHER, "batch", n_sequences, TOGETHER, n_rounds=2 if self.quick else 0)
            self.add(name, n_threads, f"{n_sequences} sequences", "tok/s", together)
        if deep:
            self.deep(name, n_threads, engines)
        for measured in engines.values():
            measured.end()

    def deep(self, name: str, n_threads: int, engines: dict[str, Engine]) -> None:
        """Decoding behind a long context."""
        for measured in engines.values():
            measured("fill", DEEP)
        self.add(name, n_threads, f"decode at {DEEP}", "tok/s", self.rates(engines, 32, "decode", 32))

    def start(self, path: Path, n_threads: int) -> None:
        """From nothing to the first token of a short prompt, and the peak of memory of a long one; a process each time."""
        seconds: dict[str, list[float]] = {"ours": [], "mapped": [], "theirs": []}
        peaks: dict[str, float] = {}
        for _ in range(self.n_rounds):
            sides = self.pair("on")
            if path.stem.endswith(MAPPED):
                sides["mapped"] = Engine(self.ours, self.kernels + "+mmap")
            for side, measured in sides.items():
                seconds[side].append(measured.open(path, n_threads, FULL_CTX) + measured("first", FIRST))
                if not self.quick and side not in peaks:
                    # llama.cpp allocates all its memory at once; ours grows with what a session holds.
                    measured("fill", PROMPT if side == "theirs" else FULL_CTX)
                    peaks[side] = measured("peak") / 1000
                measured.end()
        median = {side: statistics.median(times) for side, times in seconds.items() if times}
        self.add(path.stem, n_threads, "load to first token", "s", {side: median[side] for side in ("ours", "theirs")})
        if peaks:
            self.add(path.stem, n_threads, f"peak memory at {FULL_CTX}", "MB", {side: peaks[side] for side in ("ours", "theirs")})
        if "mapped" in median:
            self.add(path.stem, n_threads, "load to first token, mmap", "s", {"ours": median["mapped"], "theirs": median["theirs"]})
            if peaks:
                self.add(path.stem, n_threads, f"peak memory at {FULL_CTX}, mmap", "MB", {"ours": peaks["mapped"], "theirs": peaks["theirs"]})

    def candle(self, program: Path, path: Path, n_threads: int) -> None:
        """candle's own model of the same file; its threads come from the environment."""
        theirs = Engine(program, "-", {"RAYON_NUM_THREADS": str(n_threads)})
        engines = {"ours": Engine(self.ours, self.kernels), "theirs": theirs}
        for measured in engines.values():
            measured.open(path, n_threads, 1024)
        prefill = self.rates(engines, PROMPT, "prefill", PROMPT, n_rounds=2)
        self.add(path.stem, n_threads, f"prefill {PROMPT}, candle", "tok/s", prefill)
        for measured in engines.values():
            measured("fill", 32)
        decode = self.rates(engines, ANSWER // 2, "decode", ANSWER // 2, n_rounds=2)
        self.add(path.stem, n_threads, f"decode {ANSWER // 2}, candle", "tok/s", decode)
        for measured in engines.values():
            measured.end()

    def demo(self, n_threads: int) -> None:
        """The small model, where the cost of a token is everything around the products."""
        engines = self.pair(self.better_flash(DEMO, n_threads, "decode", 512))
        for measured in engines.values():
            measured.open(DEMO, n_threads, 1024)
            measured("fill", 32)
        self.add(DEMO.stem, n_threads, "decode 256", "tok/s", self.rates(engines, 256, "decode", 256, n_rounds=15))
        for measured in engines.values():
            measured.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two files, few rounds: under five minutes once everything is built")
    parser.add_argument("--candle", action="store_true", help="also candle's own models; builds them with cargo bench")
    parser.add_argument("--peer", help="a folder that has llama_cpp, lib and include of a llama-cpp-python")
    parser.add_argument("--kernels", default="-", help="force our kernel set; default: the best")
    parser.add_argument("--library", type=Path, default=engine.ROOT / "build" / "libinference.so")
    parser.add_argument("--threads", default="2,1")
    parser.add_argument("--only", default="", help="only files whose name contains this")
    parser.add_argument("--record", action="store_true", help="write benches/record/: table, JSON and chart")
    arguments = parser.parse_args()
    site = engine.peer_site(arguments.peer)
    bench = Bench(engine.build_ours(arguments.library), engine.build_theirs(site), arguments.kernels, arguments.quick)
    candle = engine.build_candle() if arguments.candle else None
    n_threads = [int(n) for n in arguments.threads.split(",")]
    machine = report.machine(engine.system_info(site), arguments.kernels, {n: engine.limits(n) for n in n_threads})
    for shape, mixture in QUICK if arguments.quick else FULL:
        path = models.make(engine.ROOT / "build" / "models", shape, mixture)
        if arguments.only not in path.stem:
            continue
        for n in n_threads:
            bench.file(path, shape, n)
        bench.start(path, n_threads[0])
        if candle and shape is models.QWEN and mixture in CANDLE:
            bench.candle(candle, path, n_threads[0])
    if arguments.only in DEMO.stem:
        for n in n_threads:
            bench.demo(n)
    print("\n" + report.table(machine, bench.rows))
    if arguments.record:
        report.record(engine.ROOT / "benches" / "record", machine, bench.rows)


if __name__ == "__main__":
    main()
