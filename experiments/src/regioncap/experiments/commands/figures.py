"""The command that draws photographs with references and captions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.qualitative.command import FiguresOptions, make_figure


@dataclass(frozen=True, kw_only=True)
class FiguresCommand:
    """Photographs with references and the captions of runs, chosen by a rule that the figure states.

    regioncap figures runs/scenes/clipcap "runs/scenes/+graph+guidance" --names ClipCap Ours --out figure.png figure.pdf
    regioncap figures runs/a runs/b --order change         half largest gains, half largest losses of b over a
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Arms' or seeds' folders of a study, or files of scores: the peers first, the own last."""
    options: Annotated[FiguresOptions, tyro.conf.arg(name="")] = field(default_factory=FiguresOptions)


def figures_command(arguments: Sequence[str]) -> int:
    """Draw the figure."""
    command = parse(FiguresCommand, "regioncap figures", arguments)
    choice = make_figure(command.runs, command.options)
    print(f"{choice.says}: {', '.join(choice.images)}")
    for file in command.options.out:
        print(file)
    return 0
