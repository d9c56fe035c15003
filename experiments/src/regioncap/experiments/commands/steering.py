"""The command that measures what edits of guidance do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.steering.measure import MeasureSteeringOptions, measure_steering


@dataclass(frozen=True, kw_only=True)
class MeasureSteeringCommand:
    """Edit dev's captions a word at a time: how often the edit is heeded, and the CIDEr that it costs.

    regioncap measure-steering runs/mine/checkpoint --out runs/mine/steering --strengths 2 4 6 8
    """

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    options: Annotated[MeasureSteeringOptions, tyro.conf.arg(name="")]


def measure_steering_command(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    command = parse(MeasureSteeringCommand, "regioncap measure-steering", arguments)
    measure_steering(command.checkpoint, command.options)
    print((command.options.out / "steering.md").read_text())
    print(f"Plot: {command.options.out / 'steering.png'}")
    return 0
