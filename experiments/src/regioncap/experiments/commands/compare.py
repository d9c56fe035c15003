"""The command that puts two runs side by side. It needs neither a model nor PyTorch, and so starts at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.comparing.command import CompareOptions, compare_command


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Two runs side by side: means, differences with intervals, p, and the images that changed most.

    regioncap compare "runs/scenes/+graph" "runs/scenes/+graph+guidance" --html changed.html      all seeds of two arms
    regioncap compare runs/a/seed0 runs/b/seed0            one seed of each
    regioncap compare mine.json theirs.json                what `regioncap evaluate --out` wrote
    """

    base: tyro.conf.Positional[Path]
    """What to compare with: an arm's or a seed's folder of a study, or a file of scores."""
    run: tyro.conf.Positional[Path]
    """What is compared, on the same images."""
    options: Annotated[CompareOptions, tyro.conf.arg(name="")] = field(default_factory=CompareOptions)


def compare_runs_command(arguments: Sequence[str]) -> int:
    """Compare two runs."""
    command = parse(CompareCommand, "regioncap compare", arguments)
    compare_command(command.base, command.run, command.options)
    return 0
