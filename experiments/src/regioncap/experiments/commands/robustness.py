"""The command that says what is left of a captioner's score when its pictures are spoilt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.robustness.measure import RobustnessOptions, measure_robustness


@dataclass(frozen=True, kw_only=True)
class RobustnessCommand:
    """Caption dev as it is and occluded, blurred, noisy, compressed, brightened, cropped and rotated.

    regioncap robustness runs/photos --data.root DIR --out runs/photos/robustness
    """

    captioners: tyro.conf.Positional[tuple[str, ...]]
    """Checkpoints, runs, studies (the first seed of every arm), and hf:NAME_OR_FOLDER; the first is what the others are
    compared with."""
    options: Annotated[RobustnessOptions, tyro.conf.arg(name="")]


def robustness_command(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    command = parse(RobustnessCommand, "regioncap robustness", arguments)
    if not command.captioners:
        raise ValueError("regioncap robustness wants checkpoints, studies or hf: captioners; got none")
    measure_robustness(command.captioners, command.options)
    print((command.options.out / "robustness.md").read_text(encoding="utf-8"))
    print(f"Curves: {command.options.out / 'robustness.png'}")
    return 0
