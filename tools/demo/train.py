"""Trains the demo model on one CPU thread; resumes from its last checkpoint.

Run: `python train.py`. Writes `build/demo/checkpoint.pt` in the project's folder.
"""

import argparse
import math
import random
import time
from dataclasses import asdict

import torch
import torch.nn.functional as F

import vocabulary
import world
from model import Model, Shape

CHECKPOINT = vocabulary.BUILD / "checkpoint.pt"
BATCH_TOKENS = 4096  # tokens in one step, padding included
STORY_SHARE = 0.06
ECHO_STEPS = 100  # short steps of pure copying before the first conversation
SAVE_EVERY = 50
LOG_EVERY = 20


class Samples:
    """Draws training samples: (token ids, which of them count in the loss)."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.tokenizer = vocabulary.load_tokenizer()
        self.template = vocabulary.compile_template(vocabulary.template_source())
        self.end_of_text = self.tokenizer.token_to_id(vocabulary.END_OF_TEXT)
        self.im_end = self.tokenizer.token_to_id(vocabulary.IM_END)
        self.header = self.encode(f"{vocabulary.IM_START}assistant\n")

    def encode(self, text: str) -> list[int]:
        """Text with its control tokens -> ids."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def sample(self, turns: int) -> tuple[list[int], list[bool]]:
        """A story or a conversation of about so many turns. Only what the character says counts."""
        who = world.random_character(self.rng)
        if self.rng.random() < STORY_SHARE:
            ids = [*self.encode(world.story(self.rng, who)), self.end_of_text]
            return ids, [True] * len(ids)
        messages, tools = world.conversation(self.rng, who, turns)
        ids = self.encode(self.template.render(messages=messages, tools=tools, add_generation_prompt=False))
        return ids, self.answers(ids)

    def answers(self, ids: list[int]) -> list[bool]:
        """True from each assistant header's end to its `<|im_end|>`, both that token and tool calls included."""
        counts, inside = [], False
        for end in range(1, len(ids) + 1):
            counts.append(inside)
            if ids[end - 1] == self.im_end:
                inside = False
            elif ids[max(0, end - len(self.header)) : end] == self.header:
                inside = True
        return counts

    def batch(self, turns: int, spread: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """ids, positions and counts, each [samples, time]; about BATCH_TOKENS in all."""
        rows, longest = [], 0
        while longest * (len(rows) + 1) <= BATCH_TOKENS:
            rows.append(self.sample(turns))
            longest = max(longest, len(rows[-1][0]))
        return self.pad(rows, longest, spread)

    def echo(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Random tokens, said twice: nothing but copying helps to predict the second half."""
        half = [[self.rng.randrange(Shape.vocabulary) for _ in range(24)] for _ in range(24)]
        rows = [(row * 2, [False] * len(row) + [True] * len(row)) for row in half]
        return self.pad(rows, 48, spread=False)

    def pad(self, rows: list, longest: int, spread: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Fills up to the longest row. Padding comes last, where causal attention never sees it."""
        ids = torch.full((len(rows), longest), self.end_of_text)
        counts = torch.zeros((len(rows), longest), dtype=torch.bool)
        positions = torch.arange(longest).repeat(len(rows), 1)
        for row, (row_ids, row_counts) in enumerate(rows):
            ids[row, : len(row_ids)] = torch.tensor(row_ids)
            counts[row, : len(row_ids)] = torch.tensor(row_counts)
            if spread:
                positions[row] = self.spread(ids[row])
        return ids, positions, counts

    def spread(self, ids: torch.Tensor) -> torch.Tensor:
        """Positions with gaps between messages, up to the whole context: short samples then teach
        the distances of long conversations (the idea of PoSE, arXiv:2309.10400)."""
        starts = (ids == self.header[0]).nonzero().flatten()[1:]
        room = Shape.context - len(ids)
        gaps = torch.zeros(len(ids), dtype=torch.long)
        if len(starts) and room > 0 and self.rng.random() < 0.5:
            cuts = sorted(self.rng.choices(range(room), k=len(starts)))
            gaps[starts] = torch.tensor([cut - before for before, cut in zip([0, *cuts], cuts)]) // 2
        return torch.arange(len(ids)) + gaps.cumsum(0)


def optimisers(model: Model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices (it learns several times faster here than AdamW alone), AdamW for the rest."""
    matrices = [p for p in model.blk.parameters() if p.dim() == 2]
    rest = [model.token_embd.weight, *(p for p in model.parameters() if p.dim() == 1)]
    return [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.01, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def learning_rate(progress: float, step: int) -> float:
    """Factor on the learning rates: a short rise, flat, then linear to almost zero in the last 40 %."""
    return min(1.0, (step + 1) / 30) * min(1.0, max(0.02, (1.0 - progress) / 0.4))


def turns_at(progress: float, rng: random.Random) -> int:
    """Short conversations first (copying forms fast there), longer ones later."""
    return rng.choice([2, 3, 4]) if progress < 0.4 else rng.choice([2, 4, 6, 9])


@torch.no_grad()
def start_twins_alike(model: Model) -> None:
    """Starts `dagger` near ` dagger`: what a system prompt says after a space, a tool call says after a quote."""
    embedding = model.token_embd.weight
    for bare, spaced in vocabulary.twins(vocabulary.load_tokenizer()):
        embedding[bare] = 0.3 * embedding[bare] + 0.7 * embedding[spaced]


def loss_of(model: Model, batch: tuple) -> torch.Tensor:
    """Mean loss over the tokens that count, in nats. Products in bfloat16, sums and weights in float32."""
    ids, positions, counts = batch
    wanted = counts[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(ids[:, :-1], positions[:, :-1])
        logits = model.logits(hidden[wanted])
    return F.cross_entropy(logits.float(), ids[:, 1:][wanted])


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
        """Up to that step. Every step draws from a generator of its own, so a resumed run sees the same text."""
        samples = Samples(random.Random(self.seed))
        start = time.monotonic() - self.seconds
        while self.step < steps:
            progress = self.step / steps
            samples.rng.seed(self.seed * 1_000_003 + self.step)
            if self.step < ECHO_STEPS:
                batch = samples.echo()
            else:
                batch = samples.batch(turns_at(progress, samples.rng), spread=progress > 0.5)
            loss = train_step(self.model, self.optims, batch, learning_rate(progress, self.step))
            self.step, self.seconds = self.step + 1, time.monotonic() - start
            self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
            if self.step % LOG_EVERY == 0:
                print(f"step {self.step}/{steps}  loss {self.loss:.4f}  {self.seconds / 60:.1f} min", flush=True)
            if self.step % SAVE_EVERY == 0 or self.step == steps:
                self.save()


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
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
