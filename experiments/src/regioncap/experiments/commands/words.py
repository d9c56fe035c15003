"""The command that measures which words guidance finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.keywords.words_on_dev import WordsOnDevOptions, table_of, words_on_dev


@dataclass(frozen=True, kw_only=True)
class MeasureWordsCommand:
    """How many of the words that guidance finds stand in dev's captions, and in the phrases of human boxes.

    regioncap measure-words runs/mine/checkpoint
    """

    checkpoint: tyro.conf.Positional[Path]
    """Folder written by `regioncap train` or `ablate`."""
    options: Annotated[WordsOnDevOptions, tyro.conf.arg(name="")] = field(default_factory=WordsOnDevOptions)


def measure_words_command(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    command = parse(MeasureWordsCommand, "regioncap measure-words", arguments)
    print(table_of(words_on_dev(command.checkpoint, command.options)))
    return 0
