"""Trains the demo model on one CPU thread; resumes from its last checkpoint.

Run: `python train.py`. Writes `build/demo/checkpoint.pt` in the project's folder.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict

import torch
import torch.nn.functional as F

import vocabulary
import world
from model import Model, Shape

CHECKPOINT = vocabulary.BUILD / "checkpoint.pt"
BATCH_TOKENS = 2048  # tokens in one step, padding included
POOL = 12  # about so many batches are drawn at once and sorted by length
HARD_WEIGHT = 3.0  # of the facts in an answer, and of where it begins or branches: few tokens, and the only hard ones
STORY_SHARE = 0.06
ECHO_STEPS = 100  # short steps of pure copying before the first conversation
SAVE_EVERY = 50
LOG_EVERY = 20


class Samples:
    """Draws training samples: (token ids, how much each counts in the loss)."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.tokenizer = vocabulary.load_tokenizer()
        self.template = vocabulary.compile_template(vocabulary.template_source())
        self.end_of_text = self.tokenizer.token_to_id(vocabulary.END_OF_TEXT)
        self.im_end = self.tokenizer.token_to_id(vocabulary.IM_END)
        self.header = self.encode(f"{vocabulary.IM_START}assistant\n")
        self.facts = {index for text in vocabulary.must_be_tokens() for index in self.encode(text)}

    def encode(self, text: str) -> list[int]:
        """Text with its control tokens -> ids."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def sample(self, turns: int) -> tuple[list[int], list[float]]:
        """A story or a conversation of about so many turns. Only what the character says counts, facts more than the rest."""
        who = world.random_character(self.rng)
        if self.rng.random() < STORY_SHARE:
            ids = [*self.encode(world.story(self.rng, who)), self.end_of_text]
            return ids, [1.0] * len(ids)
        messages, tools = world.conversation(self.rng, who, turns)
        ids = self.encode(self.template.render(messages=messages, tools=tools, add_generation_prompt=False))
        return ids, self.weights(ids)

    def weights(self, ids: list[int]) -> list[float]:
        """How much each token counts: hard ones are facts, the token behind a fact, and the first one of an answer."""
        weights, spoken = [], self.spoken(ids)
        for at, index in enumerate(ids):
            hard = index in self.facts or ids[at - 1] in self.facts or not spoken[at - 1]
            weights.append(spoken[at] * (HARD_WEIGHT if hard else 1.0))
        return weights

    def spoken(self, ids: list[int]) -> list[bool]:
        """True from each assistant header's end to its `<|im_end|>`, both that token and tool calls included."""
        spoken, inside = [], False
        for end in range(1, len(ids) + 1):
            spoken.append(inside)
            if ids[end - 1] == self.im_end:
                inside = False
            elif ids[max(0, end - len(self.header)) : end] == self.header:
                inside = True
        return spoken

    def batches(self, turns: list[int]) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """POOL batches, each of samples that are about as long as each other: (ids, positions, weights), each [samples, time]."""
        pool = [self.sample(self.rng.choice(turns)) for _ in range(POOL * BATCH_TOKENS // (20 + 45 * max(turns)))]
        pool.sort(key=lambda row: len(row[0]))
        batches = []
        while pool:
            count = max(1, BATCH_TOKENS // len(pool[-1][0]))
            batches.append(self.pad(pool[-count:]))
            del pool[-count:]
        self.rng.shuffle(batches)
        return batches

    def echo(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Random tokens, said twice: nothing but copying helps to predict the second half."""
        half = [[self.rng.randrange(Shape.vocabulary) for _ in range(24)] for _ in range(24)]
        return self.pad([(row * 2, [0.0] * len(row) + [1.0] * len(row)) for row in half])

    def pad(self, rows: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Fills up to the longest row. Padding comes last, where causal attention never sees it."""
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), longest), self.end_of_text)
        weights = torch.zeros((len(rows), longest))
        positions = torch.arange(longest).repeat(len(rows), 1)
        for row, (row_ids, row_weights) in enumerate(rows):
            ids[row, : len(row_ids)] = torch.tensor(row_ids)
            weights[row, : len(row_ids)] = torch.tensor(row_weights)
        return ids, positions, weights


def optimisers(model: Model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices (it learns several times faster here than AdamW alone), AdamW for the rest."""
    matrices = [p for p in model.blk.parameters() if p.dim() == 2]
    rest = [model.token_embd.weight, *(p for p in model.parameters() if p.dim() == 1)]
    return [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.01, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def learning_rate(progress: float, step: int) -> float:
    """Factor on the learning rates: a short rise, flat, then linear to almost zero in the last 60 %."""
    return min(1.0, (step + 1) / 30) * min(1.0, max(0.02, (1.0 - progress) / 0.6))


def turns_at(progress: float) -> list[int]:
    """How long conversations are: short ones first (copying forms fast there), longer ones later."""
    return [2, 3] if progress < 0.3 else [2, 3, 4, 5] if progress < 0.9 else [2, 4, 6, 9]


@torch.no_grad()
def start_twins_alike(model: Model) -> None:
    """Starts `dagger` near ` dagger`: what a system prompt says after a space, a tool call says after a quote."""
    embedding = model.token_embd.weight
    for bare, spaced in vocabulary.twins(vocabulary.load_tokenizer()):
        embedding[bare] = 0.3 * embedding[bare] + 0.7 * embedding[spaced]


def loss_of(model: Model, batch: tuple) -> torch.Tensor:
    """Weighted mean loss over the tokens that count, in nats. Products in bfloat16, sums and parameters in float32."""
    ids, positions, weights = batch
    wanted = weights[:, 1:] > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(ids[:, :-1], positions[:, :-1])
        logits = model.logits(hidden[wanted])
    losses = F.cross_entropy(logits.float(), ids[:, 1:][wanted], reduction="none")
    return (losses * weights[:, 1:][wanted]).sum() / weights[:, 1:].sum()


def train_step(model: Model, optims: list, batch: tuple, factor: float) -> float:
    """One step; returns the loss."""
    loss = loss_of(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optim in optims:
        for group in optim.param_groups:
            group["lr"] = group.setdefault("base_lr", group["lr"]) * factor
        optim.step()
        optim.zero_grad()
    return loss.item()


class Run:
    """The state that a checkpoint holds: weights, optimisers, step, seconds of training so far."""

    def __init__(self, seed: int):
        torch.manual_seed(seed)
        self.seed, self.step, self.seconds, self.loss = seed, 0, 0.0, math.nan
        self.model = Model(Shape())
        start_twins_alike(self.model)
        self.optims = optimisers(self.model)

    def save(self) -> None:
        """Writes beside, then renames: a stopped run never leaves half a file."""
        state = {"step": self.step, "seconds": self.seconds, "loss": self.loss, "shape": asdict(self.model.shape)}
        state |= {"model": self.model.state_dict(), "optims": [optim.state_dict() for optim in self.optims]}
        torch.save(state, CHECKPOINT.with_suffix(".part"))
        CHECKPOINT.with_suffix(".part").rename(CHECKPOINT)

    def resume(self) -> None:
        """Continues from the checkpoint where there is one."""
        if not CHECKPOINT.exists():
            return
        state = torch.load(CHECKPOINT, weights_only=True)
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
        self.model.load_state_dict(state["model"])
        for optim, saved in zip(self.optims, state["optims"]):
            optim.load_state_dict(saved)

    def train(self, steps: int) -> None:
        """Up to that step."""
        start = time.monotonic() - self.seconds
        batches = self.batches(steps)
        while self.step < steps:
            loss = train_step(self.model, self.optims, next(batches), learning_rate(self.step / steps, self.step))
            self.step, self.seconds = self.step + 1, time.monotonic() - start
            self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
            if self.step % LOG_EVERY == 0:
                print(f"step {self.step}/{steps}  loss {self.loss:.4f}  {self.seconds / 60:.1f} min", flush=True)
            if self.step % SAVE_EVERY == 0 or self.step == steps:
                self.save()

    def batches(self, steps: int) -> Iterator[tuple]:
        """What to train on from this step on. A resumed run draws other text than one that never stopped."""
        samples = Samples(random.Random(self.seed * 1_000_003 + self.step))
        for _ in range(self.step, ECHO_STEPS):
            yield samples.echo()
        while True:
            yield from samples.batches(turns_at(self.step / steps))


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vocabulary.BUILD.mkdir(parents=True, exist_ok=True)
    run = Run(arguments.seed)
    run.resume()
    run.train(arguments.steps)


if __name__ == "__main__":
    main()
