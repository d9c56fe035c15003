"""The command that shows why a picture's caption is what it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.decoder import SearchConfig
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.commands.study import checkpoint_of
from regioncap.experiments.explaining.explain import ExplainOptions, explain_pictures


@dataclass(frozen=True, kw_only=True)
class ExplainCommand:
    """Show what a caption rests on: words of the picture and of its regions, gates, attention word by word.

    regioncap explain runs/mine/checkpoint photo.jpg --out runs/mine/why
    """

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Picture files, and folders to look for them in."""
    options: Annotated[ExplainOptions, tyro.conf.arg(name="")] = field(default_factory=ExplainOptions)
    search: SearchConfig = field(default_factory=SearchConfig)
    """The checkpoint's own unless given here."""


def explain_command(arguments: Sequence[str]) -> int:
    """Explain; the status is 1 if a picture could not be read."""
    folder, stored = checkpoint_of(arguments)
    default = ExplainCommand(checkpoint=folder, paths=(), search=stored) if folder else None
    command = parse(ExplainCommand, "regioncap explain", arguments, default)
    if not command.paths:
        raise ValueError("regioncap explain wants pictures, or folders of them, behind the checkpoint; got none")
    problems = explain_pictures(command.checkpoint, command.paths, command.options, command.search)
    for problem in problems:
        fail(problem)
    return 1 if problems else 0
