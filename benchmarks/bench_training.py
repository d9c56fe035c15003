"""Training steps: the engine beside a bare loop over the same tensors, and what torch.compile makes of it.

    python benchmarks/bench_training.py loop photos --data.root DIR     # any preset and flags of `regioncap train`
    python benchmarks/bench_training.py compile photos --data.root DIR
    pytest benchmarks/bench_training.py --benchmark-only -o addopts=--import-mode=importlib -o python_files='bench_*.py'

The bare loop has its batches in memory before the clock starts, and does nothing but forward, backward, clip and AdamW
on the same captioner; the engine reads features, draws captions, weighs terms, checks, and reports every 20th step. The
sides take turns by ten steps, on two captioners of equal weights. CPU time on one thread, medians of the turns.

Under pytest: a step of the scenes preset, in each phase; `extra_info` has images/s and the peak of this process's RSS.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from regioncap.experiments.cache import cache_folder
from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.commands.study import TrainCommand
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared, open_prepared
from regioncap.experiments.presets import scenes
from regioncap.experiments.study_options import StudyOptions
from regioncap.experiments.training.captions import batch_of
from regioncap.experiments.training.length import steps_per_epoch, with_steps
from regioncap.experiments.training.phases import PhasePlan, parameter_groups, set_trainable
from regioncap.experiments.training.processes import Processes
from regioncap.experiments.training.stepper import Stepper
from regioncap.experiments.training.train import fresh_captioner
from regioncap.experiments.tuning.run_trial import make_inputs
from regioncap.experiments.tuning.trial_job import InputsMaker

TURN, TURNS = 10, 9
REPORT_EVERY = 20
Step = Callable[[int], object]


def inputs(experiment: Experiment, study: StudyOptions) -> tuple[Experiment, Prepared]:
    """What `regioncap train` trains on."""
    made = make_inputs(experiment, InputsMaker(cache=study.cache, features=study.features, unreadable=study.unreadable))
    prepared = open_prepared(made.inputs.prepared)
    return with_steps(made.experiment, len(prepared.train)), prepared


def engine_step(experiment: Experiment, prepared: Prepared, phase: int = 2) -> Step:
    """A step of the engine in one of the phases."""
    captioner = fresh_captioner(experiment, prepared)
    set_trainable(captioner.train(), experiment.phase1 if phase == 1 else experiment.phase2)
    plan = PhasePlan(
        first=experiment.phase1,
        second=experiment.phase2,
        train=experiment.train,
        steps_per_epoch=steps_per_epoch(experiment, len(prepared.train)),
    )
    objective = experiment.objective.build(prepared.lessons, experiment.dim)
    stepper = Stepper(captioner, objective, experiment, prepared, plan, Processes(experiment.train))
    stepper.wrap()
    return lambda step: stepper(step, str, observe=(step + 1) % REPORT_EVERY == 0)


def bare_step(experiment: Experiment, prepared: Prepared, steps: int) -> Step:
    """The same step by hand, over batches that lie in memory."""
    captioner = fresh_captioner(experiment, prepared)
    set_trainable(captioner.train(), experiment.phase2)
    config, objective = experiment.train, experiment.objective.build(prepared.lessons, experiment.dim)
    optimizer = torch.optim.AdamW(parameter_groups(captioner, objective.parameters(), config), betas=(0.9, 0.98))
    batches = []
    for step in range(steps):
        rows = batch_of(len(prepared.train), config.images_per_step, step, experiment.seed)
        targets = objective.targets(rows, config.captions_per_image, torch.Generator().manual_seed(step))
        batches.append((prepared.train.images(rows), prepared.held_out(rows), targets))

    def step_by_hand(step: int) -> None:
        images, held_out, targets = batches[step % steps]
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            losses = objective(captioner, captioner.condition(images, held_out), targets)
            total = sum((objective.weights[name] * term for name, term in losses.terms.items()), torch.zeros(()))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(captioner.parameters(), config.clip_norm)
        optimizer.step()

    return step_by_hand


def turns(sides: dict[str, Step]) -> dict[str, list[float]]:
    """CPU seconds of `TURN` steps of each side, turn by turn; the first turn warms up."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS + 1):
        for name, step in sides.items():
            started = time.process_time()
            for number in range(turn * TURN, (turn + 1) * TURN):
                step(number)
            if turn:
                spent[name].append(time.process_time() - started)
    return spent


def table(spent: dict[str, list[float]], images: int, against: str) -> None:
    """Images per CPU second of each side, and ratios to `against`, turn by turn."""
    for name, seconds in spent.items():
        rate = TURN * images / statistics.median(seconds)
        ratios = sorted(base / own for base, own in zip(spent[against], seconds, strict=True))
        spread = f"{statistics.median(ratios):.3f} ({ratios[1]:.3f} to {ratios[-2]:.3f})"
        print(f"{name:>10}: {rate:6.1f} images per CPU second, {spread} of {against}")


def command_of(arguments: Sequence[str]) -> TrainCommand:
    """A preset and flags, as `regioncap train` reads them."""
    preset, experiment, rest = starting_point("train", arguments)
    default = TrainCommand(study=StudyOptions(out=Path("unused")), experiment=experiment)
    return parse(TrainCommand, f"bench_training.py {preset}", rest, default)


@pytest.fixture(scope="module")
def small() -> tuple[Experiment, Prepared]:
    """The scenes preset, whose pictures and features are made once and kept."""
    torch.set_num_threads(1)
    return inputs(scenes(), StudyOptions(out=Path("unused"), cache=cache_folder()))


@pytest.mark.parametrize("phase", [1, 2])
def test_step(benchmark: BenchmarkFixture, small: tuple[Experiment, Prepared], phase: int) -> None:
    experiment, prepared = small
    step, at = engine_step(experiment, prepared, phase), iter(range(10_000))
    benchmark.pedantic(lambda: step(next(at)), rounds=20, warmup_rounds=5)  # type: ignore[no-untyped-call]
    assert benchmark.stats is not None
    benchmark.extra_info["images_per_s"] = experiment.train.images_per_step / benchmark.stats.stats.median
    benchmark.extra_info["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["loop" | "compile" as what, *arguments]:
            command = command_of(arguments)
            settings, prepared = inputs(command.experiment, command.study)
            settings = replace(settings, train=replace(settings.train, device="cpu"))
            sides = {"engine": engine_step(settings, prepared)}
            if what == "loop":
                sides["bare loop"] = bare_step(settings, prepared, (TURNS + 1) * TURN)
            else:
                compiled = replace(settings, train=replace(settings.train, compile=True))
                sides["compiled"] = engine_step(compiled, prepared)
            against = "bare loop" if what == "loop" else "engine"
            table(turns(sides), settings.train.images_per_step, against)
        case _:
            sys.exit(__doc__)
