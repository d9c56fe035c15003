"""The command that says where the time goes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.arms import arm_of, own_arm
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.checkpoint import load_experiment
from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.commands.preset import starting_point
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.scenes import ScenesConfig
from regioncap.experiments.data.sources import ScenesSource
from regioncap.experiments.presets import PRESETS
from regioncap.experiments.profiling.profile import ProfileOptions, profile_subject

_FEW = ScenesConfig(train=96, val=24, test=1)
"""Enough for batches; what a step costs does not depend on how many more there are."""


@dataclass(frozen=True, kw_only=True)
class ProfileCommand:
    """Caption, train or encode for some seconds and say where the time goes: spans, a trace, operators, memory.

    regioncap profile scenes                                   a short training on few pictures, made on the spot
    regioncap profile runs/mine/checkpoint --data.root DIR     captioning by a checkpoint
    regioncap profile paper                                    Table 2's sizes with random weights
    """

    arm: str | None = None
    """Which row of the study; of a preset its captioner, unless named here. A checkpoint is what it is."""
    options: Annotated[ProfileOptions, tyro.conf.arg(name="")] = field(default_factory=ProfileOptions)
    cache: Path = field(default_factory=cache_folder)
    """Where scenes, features and whatever training shares are kept."""
    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


def profile_command(arguments: Sequence[str]) -> int:
    """Run it; prints the verdict and where the files are."""
    checkpoint, arm = None, None
    if arguments and not arguments[0].startswith("-") and arguments[0] not in PRESETS and Path(arguments[0]).is_dir():
        checkpoint = Path(arguments[0])
        name, experiment, rest = f"the checkpoint {checkpoint}", load_experiment(checkpoint), arguments[1:]
    else:
        preset, experiment, rest = starting_point("profile", arguments)
        name, experiment, arm = f"the preset {preset}", _with_few_scenes(experiment), own_arm(experiment)
    default = ProfileCommand(arm=arm, experiment=experiment)
    command = parse(ProfileCommand, "regioncap profile", rest, default)
    experiment = command.experiment
    if command.arm is not None:
        if checkpoint is not None:
            raise ValueError(f"--arm {command.arm!r} is for presets; {checkpoint} is the captioner that it is")
        experiment, name = arm_of(command.arm).make(experiment), f"{name}, {command.arm}"
    said = profile_subject(name, experiment, command.options, command.cache, checkpoint)
    print(f"{said}\nProfile, operators, memory and trace (ui.perfetto.dev): {command.options.out}")
    return 0


def _with_few_scenes(experiment: Experiment) -> Experiment:
    """Scenes are made on the spot: few, unless flags say otherwise."""
    if isinstance(experiment.data, ScenesSource) and experiment.data.scenes == ScenesConfig():
        return replace(experiment, data=replace(experiment.data, scenes=_FEW))
    return experiment
