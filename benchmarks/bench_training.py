"""Training steps: the engine beside a bare loop over the same tensors, and what torch.compile makes of it.

    python benchmarks/bench_training.py loop photos --data.root DIR     # any preset and flags of `regioncap train`
    python benchmarks/bench_training.py compile photos --data.root DIR
    pytest benchmarks/bench_training.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

The bare loop has its batches in memory before the clock starts, and does nothing but forward, backward, clip and AdamW
on the same captioner; the engine reads features, draws captions, weighs terms, checks, and reports every 20th step. The
sides take turns by ten steps, on two captioners of equal weights. CPU time on one thread, medians of the turns.

Under pytest: a step at Table 2's sizes (CLIP's last two layers to GPT-2 124M, random weights) on 4 images of 5 captions
of 14 tokens, where Table 2 has 64 images: a sixteenth of its batch fits into a desktop's memory and a benchmark's time.
Phase 1 has GPT-2 frozen, phase 2 trains it and CLIP's last two layers. Float32 beside the preset's bfloat16 autocast.
Then a step of the engine on the scenes preset in each phase.
"""

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

from regioncap.encoders import ImageFeatures
from regioncap.experiments.arms import own_arm
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE
from regioncap.experiments.benchmarking.scaling import along
from regioncap.experiments.benchmarking.table2_stages import raw_regions
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.commands.study import TrainCommand
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared, open_prepared
from regioncap.experiments.presets import scenes
from regioncap.experiments.study_options import RunOptions
from regioncap.experiments.training.captions import CaptionTensors, batch_of
from regioncap.experiments.training.length import steps_per_epoch, with_steps
from regioncap.experiments.training.objectives.objective import Lessons
from regioncap.experiments.training.phases import PhasePlan, parameter_groups, set_trainable
from regioncap.experiments.training.processes import Processes
from regioncap.experiments.training.step import TrainingStep
from regioncap.experiments.training.stepper import Stepper
from regioncap.experiments.training.train import fresh_captioner
from regioncap.experiments.tuning.run_trial import make_inputs
from regioncap.experiments.tuning.trial_job import InputsMaker

CAPTIONS, TOKENS = 5, 14
TURN, TURNS = 10, 9
REPORT_EVERY = 20
Step = Callable[[int], object]


def inputs(experiment: Experiment, run: RunOptions) -> tuple[Experiment, Prepared]:
    """What `regioncap train` trains on."""
    made = make_inputs(experiment, InputsMaker(cache=run.cache, features=run.features, unreadable=run.unreadable))
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
    optimizer = torch.optim.AdamW(
        parameter_groups(captioner, objective.parameters(), config), betas=(0.9, 0.98), fused=True
    )
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
    default = TrainCommand(arm=own_arm(experiment), run=RunOptions(out=Path("unused")), experiment=experiment)
    return parse(TrainCommand, f"bench_training.py {preset}", rest, default)


def table2_step(phase: int, precision: str, images: int) -> Work:
    """Forward, backward, clip and AdamW at Table 2's sizes, over features that lie in memory."""
    settings, whole = table2.experiment(), table2.clip()
    captioner = table2.captioner(whole).to(DEVICE).train()
    set_trainable(captioner, settings.phase1 if phase == 1 else settings.phase2)
    objective = settings.objective.build(_lessons(images), settings.dim)
    step = TrainingStep(captioner, objective).to(DEVICE)
    rows, regions = torch.arange(images), raw_regions(images)
    seen = ImageFeatures(pooled=torch.randn(images, whole.pooled_dim, device=DEVICE), regions=regions)
    targets = tuple(x.to(DEVICE) for x in objective.targets(rows, CAPTIONS, torch.Generator().manual_seed(0)))
    shares = dict.fromkeys(objective.weights, 1.0)
    optimizer = torch.optim.AdamW(parameter_groups(captioner, objective.parameters(), settings.train), fused=True)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
            total, _, _ = step(seen, None, targets, shares, False)
        total.backward()
        nn.utils.clip_grad_norm_(captioner.parameters(), settings.train.clip_norm)
        optimizer.step()

    trained = sum(weight.numel() for weight in captioner.parameters() if weight.requires_grad)
    sizes = {"captions": CAPTIONS, "tokens": TOKENS, "N": table2.REGIONS, "trained": trained}
    return Work(call=call, images=images, sizes={**sizes, "precision": precision}, modules=(captioner,))


def _lessons(images: int) -> Lessons:
    """Captions of random tokens."""
    torch.manual_seed(0)
    tokenizer = table2.tokenizer()
    tokens = torch.randint(4, len(tokenizer), (images, CAPTIONS, TOKENS))
    tokens[..., 0], tokens[..., -1] = tokenizer.bos, tokenizer.eos
    text = torch.randn(images, CAPTIONS, 768)
    captions = CaptionTensors(tokens=tokens, mask=torch.ones_like(tokens, dtype=torch.bool), text=text)
    return Lessons(
        captions=captions,
        references=(("made up",) * CAPTIONS,) * images,
        tokenizer=tokenizer,
        scene_bank=table2.bank(10),
        detail_bank=table2.bank(10, skip=10),
    )


def scenes_step(phase: int) -> Work:
    """The engine on the scenes preset, whose pictures and features are made once and kept."""
    experiment, prepared = inputs(scenes(), RunOptions(out=Path("unused"), cache=cache_folder()))
    step, at = engine_step(experiment, prepared, phase), iter(range(10_000))
    return Work(
        call=lambda: step(next(at)),
        images=experiment.train.images_per_step,
        sizes={"captions": experiment.train.captions_per_image, "precision": experiment.train.precision},
    )


STAGE = "training step"
AT_TABLE_2 = Case(stage=STAGE, name="", make=table2_step, rounds=(3, 5))
STAGE_CASES = (
    replace(AT_TABLE_2, name="phase 1, GPT-2 frozen", arguments=(1, "bfloat16", 4)),
    replace(AT_TABLE_2, name="phase 2, joint", arguments=(2, "bfloat16", 4)),
    replace(AT_TABLE_2, name="phase 1, GPT-2 frozen, float32", arguments=(1, "float32", 4), full=True),
    replace(AT_TABLE_2, name="phase 2, joint, float32", arguments=(2, "float32", 4), full=True),
    *along(
        replace(AT_TABLE_2, name="phase 2", full=True),
        "images of a batch",
        (1, 2, 4, 8, 16),
        (),
        lambda images: (2, "bfloat16", images),
    ),
    *(
        Case(stage=STAGE, name=f"scenes, phase {phase}", make=scenes_step, arguments=(phase,), memory=False)
        for phase in (1, 2)
    ),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_step(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["loop" | "compile" as what, *arguments]:
            command = command_of(arguments)
            settings, prepared = inputs(command.experiment, command.run)
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
