"""A small training as a program, for tests that kill it or start it twice: no test itself.

trainer.py killed EXPERIMENT.json PREPARED OUT KILLS SEED   forks a training, kills it KILLS times, lets it end
trainer.py once EXPERIMENT.json PREPARED OUT                one training, or one process of several (RANK, WORLD_SIZE)
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import from_dict
from regioncap.experiments.generate import generate_over
from regioncap.experiments.metrics import CaptionScorer, Scores
from regioncap.experiments.prepare import Prepared, open_prepared
from regioncap.experiments.training.engine import Keeping
from regioncap.experiments.training.processes import Processes, rank
from regioncap.experiments.training.state import load_state
from regioncap.experiments.training.train import train


class Lengths(CaptionScorer):
    """A dev CIDEr that follows from the captions without Java: their mean length."""

    def score(self, references: Any, candidates: Any, *arguments: Any, **settings: Any) -> Scores:
        words = sum(len(caption.split()) for caption in candidates.values())
        return Scores(corpus={"CIDEr": words / len(candidates)}, per_image={}, missing={})


def run(experiment: Experiment, prepared: Prepared, out: Path) -> None:
    """Train with states and checkpoints under `out`; at the end its curve, weights and dev captions lie there."""

    def checkpoint(name: str, captioner: Any) -> None:
        save_checkpoint(
            Checkpoint.of(experiment, captioner, prepared),
            out / name,
        )

    keeping = Keeping(state=out / "training" / "state.pt", key="a", checkpoint=checkpoint)
    trained = train(experiment, prepared, Lengths(), keeping=keeping)
    processes = Processes(experiment.train)
    rows = processes.slice_of(torch.arange(len(prepared.dev)))
    parts = generate_over(trained.captioner, prepared.dev, prepared.tokenizer, experiment.search, rows=rows)
    captions = processes.gathered([text for part in parts for text in part.texts])
    if rank() == 0:
        torch.save(trained.captioner.state_dict(), out / "weights.pt")
        (out / "result.json").write_text(json.dumps({"history": trained.history, "captions": captions}))


def killed(experiment: Experiment, prepared: Prepared, out: Path, kills: int, chance: random.Random) -> None:
    """Every other kill hits a state that is being written, the others the steps between; prints where each hit."""
    state, hit = out / "training" / "state.pt", []
    partial = state.with_name(state.name + ".partial")
    while True:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(experiment, prepared, out)
                status = 0
            finally:
                os._exit(status)
        kill_at = time.monotonic() + chance.uniform(0.05, 0.6)
        first, while_written = _steps(state), len(hit) % 2 == 1
        while len(hit) < kills and os.waitpid(child, os.WNOHANG) == (0, 0):
            # A kill comes after some progress, so that the training does end one day.
            due = _steps(state) > first and (while_written or time.monotonic() > kill_at)
            # Asked last: reading a state takes longer than a step, and a slow disk is nearly always writing one.
            if due and partial.exists() == while_written:
                os.kill(child, signal.SIGKILL)
                hit.append("state" if partial.exists() else "training")
                break
        _, status = os.waitpid(child, 0) if len(hit) <= kills else (0, 0)
        _check(out)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the training ended with an error"
            break
    print(json.dumps(hit))


def _steps(state: Path) -> int:
    values = load_state(state)
    return 0 if values is None else int(values["steps"])


def _check(out: Path) -> None:
    """Whatever there is, is whole."""
    load_state(out / "training" / "state.pt")
    for name in ("best", "last"):
        if (out / name).exists():
            load_checkpoint(out / name)


def main() -> None:
    torch.set_num_threads(1)
    what, experiment, prepared, out = sys.argv[1], *map(Path, sys.argv[2:5])
    settings = from_dict(Experiment, json.loads(experiment.read_text()))
    if what == "once":
        run(settings, open_prepared(prepared), out)
    else:
        killed(settings, open_prepared(prepared), out, int(sys.argv[5]), random.Random(sys.argv[6]))


if __name__ == "__main__":
    main()
