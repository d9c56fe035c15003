"""The commands that train, evaluate and caption."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.decoder import SearchConfig
from regioncap.experiments.arms import arm_of, own_arm, standard_arms
from regioncap.experiments.caption import CaptionOptions, caption
from regioncap.experiments.checkpoint import load_experiment
from regioncap.experiments.commands.evaluated import print_scores
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.commands.peer import evaluate_peer_command
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.config import Experiment
from regioncap.experiments.evaluate import EvaluateOptions, evaluate
from regioncap.experiments.peers.hf_captioner import PREFIX as PEER
from regioncap.experiments.scenes_encoders import ScenesEncodersConfig, train_scenes_encoders
from regioncap.experiments.study import run_study, train_one
from regioncap.experiments.study_options import RunOptions, StudyError, StudyOptions


@dataclass(frozen=True, kw_only=True)
class AblateCommand:
    """The ablation study: every arm with every seed, scored on dev."""

    config: Path | None = None
    """Start from these settings, such as best.json of `regioncap tune`, in the place of the preset's."""
    study: Annotated[StudyOptions, tyro.conf.arg(name="")]
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train one captioner and score it on dev."""

    arm: str
    """Which row of the study to train."""
    config: Path | None = None
    """Start from these settings, such as best.json of `regioncap tune`, in the place of the preset's."""
    run: Annotated[RunOptions, tyro.conf.arg(name="")]
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Caption a split with a checkpoint and score it."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`; or hf:NAME_OR_FOLDER, a captioner of transformers, whose flags
    `regioncap evaluate hf: --help` lists."""
    options: Annotated[EvaluateOptions, tyro.conf.arg(name="")] = field(default_factory=EvaluateOptions)
    search: SearchConfig = field(default_factory=SearchConfig)
    """The checkpoint's own unless given here."""


@dataclass(frozen=True, kw_only=True)
class CaptionCommand:
    """Caption pictures with a checkpoint."""

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Picture files, and folders to look for them in."""
    options: Annotated[CaptionOptions, tyro.conf.arg(name="")] = field(default_factory=CaptionOptions)
    search: SearchConfig = field(default_factory=SearchConfig)
    """The checkpoint's own unless given here."""


def _ablate(arguments: Sequence[str]) -> int:
    preset, experiment, rest = starting_point("ablate", arguments)
    study = StudyOptions(out=Path("runs") / preset, arms=standard_arms(experiment))
    default = AblateCommand(study=study, experiment=experiment)
    command = parse(AblateCommand, f"regioncap ablate {preset}", rest, default)
    run_study(command.experiment, command.study)
    return 0


def _train(arguments: Sequence[str]) -> int:
    preset, experiment, rest = starting_point("train", arguments)
    run = RunOptions(out=Path("runs") / f"{preset}-train")
    default = TrainCommand(arm=own_arm(experiment), run=run, experiment=experiment)
    command = parse(TrainCommand, f"regioncap train {preset}", rest, default)
    arm_of(command.arm)  # or it is refused
    train_one(command.experiment, command.arm, command.run)
    return 0


def _evaluate(arguments: Sequence[str]) -> int:
    if arguments and arguments[0].startswith(PEER):
        return evaluate_peer_command(arguments)
    folder, stored = checkpoint_of(arguments)
    default = EvaluateCommand(checkpoint=folder, search=stored) if folder else None
    command = parse(EvaluateCommand, "regioncap evaluate", arguments, default)
    scores = evaluate(command.checkpoint, command.options, command.search)
    print_scores(scores, str(command.checkpoint), command.options.split)
    return 0


def _caption(arguments: Sequence[str]) -> int:
    folder, stored = checkpoint_of(arguments)
    default = CaptionCommand(checkpoint=folder, paths=(), search=stored) if folder else None
    command = parse(CaptionCommand, "regioncap caption", arguments, default)
    if not command.paths:
        raise ValueError("regioncap caption wants pictures, or folders of them, behind the checkpoint; got none")
    problems = caption(command.checkpoint, command.paths, command.options, command.search)
    for problem in problems:
        fail(problem)
    return 1 if problems else 0


def _train_scenes_encoders(arguments: Sequence[str]) -> int:
    config = parse(ScenesEncodersConfig, "regioncap train-scenes-encoders", arguments)
    train_scenes_encoders(config)
    return 0


def checkpoint_of(arguments: Sequence[str]) -> tuple[Path | None, SearchConfig]:
    """The checkpoint that the words begin with, and its search: what the flags then change."""
    if not arguments or arguments[0].startswith("-"):
        return None, SearchConfig()
    return Path(arguments[0]), load_experiment(Path(arguments[0])).search


def study_command(name: str, arguments: Sequence[str]) -> int:
    """Run a command of STUDY_COMMANDS; a study of which arms failed has said so, and ends with status 1."""
    try:
        return STUDY_COMMANDS[name](arguments)
    except StudyError as error:
        return fail(str(error))


STUDY_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "ablate": _ablate,
    "train": _train,
    "evaluate": _evaluate,
    "caption": _caption,
    "train-scenes-encoders": _train_scenes_encoders,
}
