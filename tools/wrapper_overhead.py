#!/usr/bin/env python3
"""What reading one event costs in Python, when all events of a generation wait in the queue: beside tools/wrapper_overhead.cpp.

python3 tools/wrapper_overhead.py [MODEL.gguf]
"""

import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bindings/python"))
import inference  # noqa: E402

ROUNDS = 20
BUSY = "INF_ERR_BUSY"


def full(session: inference.Session, greedy: inference.Sampler) -> inference.Generation:
    """A generation of which every event is queued."""
    generation = session.generate("The smith", max_tokens=200, sampler=greedy, queue_capacity=4096)
    while True:
        try:
            session.truncate(1 << 20)
        except inference.Error as error:
            if error.name != BUSY:
                return generation
        time.sleep(0.001)


def main() -> None:
    model = inference.load(sys.argv[1] if len(sys.argv) > 1 else ROOT / "models/demo.gguf")
    greedy, times = model.sampler(), []
    greedy.add_logit_bias({model.info().eos: float("-inf")})
    for _ in range(ROUNDS):
        session = model.session()
        generation = full(session, greedy)
        start = time.perf_counter_ns()
        n = sum(1 for _ in generation)
        times.append((time.perf_counter_ns() - start) / n)
    print(f"Python: {median(times):6.0f} ns/event")


if __name__ == "__main__":
    main()
