"""Builds the measuring programs and talks to them: one child process per engine."""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "bench"
CFLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", f"-I{HERE}"]
PEER = "llama-cpp-python==0.3.36"


def compile_c(name: str, sources: list[str], flags: list[str]) -> Path:
    BUILD.mkdir(parents=True, exist_ok=True)
    program = BUILD / name
    command = [os.environ.get("CC", "cc"), *CFLAGS, *(str(HERE / source) for source in sources), "-o", str(program), *flags]
    subprocess.run(command, check=True)
    return program


def build_ours(library: Path) -> Path:
    folder = library.resolve().parent
    flags = [f"-I{ROOT / 'include'}", f"-L{folder}", "-linference", f"-Wl,-rpath,{folder}"]
    return compile_c("ours", ["harness.c", "ours.c"], flags)


def build_theirs(site: Path) -> Path:
    lib = site / "lib"
    names = ("llama", "ggml", "ggml-cpu", "ggml-base")
    flags = [f"-I{site / 'include'}", f"-L{lib}", *(f"-l{name}" for name in names), f"-Wl,-rpath,{lib.resolve()}"]
    return compile_c("theirs", ["harness.c", "theirs.c"], flags)


def build_candle() -> Path:
    """candle's own models, in a program of the project's benches."""
    command = ["cargo", "bench", "--bench", "candle", "--no-run", "--message-format", "json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    artifacts = [json.loads(line) for line in lines]
    return Path(next(a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == "candle"))


def peer_site(given: str | None) -> Path:
    """Where llama.cpp's libraries and headers are: `given`, or this Python's packages, into which it is built if it is missing."""
    site = Path(given or sysconfig.get_path("platlib"))
    if not (site / "llama_cpp").exists():
        print(f"building {PEER} for this machine into {site}: a quarter of an hour on two cores", file=sys.stderr)
        command = ["pip", "install", "--quiet", "--no-binary", "llama-cpp-python", "--target", str(site), PEER]
        subprocess.run([sys.executable, "-m", *command], check=True)
    return site


def system_info(site: Path) -> str:
    """What llama.cpp was compiled for, in its own words."""
    code = "import llama_cpp; print(llama_cpp.llama_print_system_info().decode())"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def limits(n_threads: int) -> dict[str, float]:
    """What the machine can do at most with so many threads, from limits.c."""
    program = compile_c("limits", ["limits.c"], ["-O3", "-lpthread"])
    output = subprocess.run([program, str(n_threads)], check=True, capture_output=True, text=True).stdout
    return dict(zip(("read_gb_s", "avx2_gmac_s", "vnni_gmac_s"), map(float, output.split())))


@dataclass
class Engine:
    """A child process that measures; `variant` is what its program makes of it."""

    program: Path
    variant: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def __call__(self, *command: object) -> float:
        self.process.stdin.write(" ".join(map(str, command)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.program.name} ended at: {' '.join(map(str, command))}")
        return float(answer)

    def open(self, path: Path, n_threads: int, n_ctx: int) -> float:
        return self("open", path, n_threads, n_ctx, self.variant)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
