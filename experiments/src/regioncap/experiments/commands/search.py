"""The command that says what each way of searching is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.search_sweep import SearchSweepOptions, sweep_search


@dataclass(frozen=True, kw_only=True)
class SweepSearchCommand:
    """Caption dev with many searches and compare time and CIDEr: n greedy tokens, k beams, precisions.

    regioncap sweep-search runs/mine/checkpoint --greedy-tokens 0 4 --beams 1 3 5 --out runs/mine/sweep
    """

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    options: Annotated[SearchSweepOptions, tyro.conf.arg(name="")]


def sweep_search_command(arguments: Sequence[str]) -> int:
    """Sweep and print the table."""
    command = parse(SweepSearchCommand, "regioncap sweep-search", arguments)
    sweep_search(command.checkpoint, command.options)
    print((command.options.out / "sweep.md").read_text())
    print(f"Plot: {command.options.out / 'sweep.png'}")
    return 0
