"""The command that goes on from a trained captioner with self-critical training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.arms import SELF_CRITICAL
from regioncap.experiments.checkpoint import experiment_to_go_on
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.config import Experiment
from regioncap.experiments.presets import photos_best
from regioncap.experiments.study import train_one
from regioncap.experiments.study_options import RunOptions, StudyError
from regioncap.experiments.training.objectives.self_critical import SelfCriticalConfig


@dataclass(frozen=True, kw_only=True)
class SelfCriticalCommand:
    """Go on from a trained captioner: it draws captions of the training images, and those that beat the others of their
    image in CIDEr-D become likelier.

    Stages, data and search are the checkpoint's; what is frozen is what its last phase froze. The table has the
    checkpoint as its row `before`.
    """

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    run: Annotated[RunOptions, tyro.conf.arg(name="")]
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def self_critical_command(arguments: Sequence[str]) -> int:
    """Train, and score before and after."""
    if arguments and not arguments[0].startswith("-"):
        folder = Path(arguments[0])
        trained = experiment_to_go_on(folder)
    elif {"-h", "--help"} & set(arguments):
        folder, trained = Path("CHECKPOINT"), photos_best()  # help names somebody's defaults: the best preset's
    else:
        got = repr(arguments[0]) if arguments else "nothing"
        raise ValueError(
            f"regioncap self-critical wants a checkpoint first, a folder that `regioncap train` wrote, got {got}"
        )
    default = SelfCriticalCommand(
        checkpoint=folder,
        run=RunOptions(out=Path("runs") / "self-critical"),
        experiment=going_on(trained, folder),
    )
    command = parse(SelfCriticalCommand, "regioncap self-critical", arguments, default)
    try:
        train_one(command.experiment, SELF_CRITICAL, command.run)
    except StudyError as error:
        return fail(str(error))
    return 0


def going_on(trained: Experiment, folder: Path) -> Experiment:
    """A checkpoint's experiment, trained further by the self-critical objective: what the command starts from.

    One phase that frees what the last one did, at a fifteenth of the learning rate that captions were learned with and
    after a warm-up: Adam's first steps are as large as later ones, and what a few drawn captions say is mostly noise
    (docs/self-critical.md). Weights are averaged against that noise, and the best dev evaluation is kept.
    """
    last = trained.phase2 if trained.phase2.share else trained.phase1
    return replace(
        trained,
        init_from=folder,
        objective=SelfCriticalConfig(),
        phase1=replace(last, share=1.0, epochs=None),
        phase2=replace(last, share=0.0, epochs=None),
        train=replace(
            trained.train,
            steps=600,
            lr=trained.train.lr / 15,
            schedule="cosine",
            warmup=60,
            ema=0.99,
            evaluations=6,
            keep="best",
        ),
    )
