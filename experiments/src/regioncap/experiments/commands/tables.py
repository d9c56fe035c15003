"""The command that makes the paper's tables, with what was measured here below what is published."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.published.command import TablesOptions, make_tables


@dataclass(frozen=True, kw_only=True)
class TablesCommand:
    """The paper's Tables 3 to 6 as printed, and below them, apart, what was measured here.

    regioncap tables runs/scenes runs/photos --out tables
    """

    studies: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of studies, or single runs as `regioncap compare` takes them; none prints what is published."""
    options: Annotated[TablesOptions, tyro.conf.arg(name="")] = field(default_factory=TablesOptions)


def tables_command(arguments: Sequence[str]) -> int:
    """Make the tables."""
    command = parse(TablesCommand, "regioncap tables", arguments)
    make_tables(command.studies, command.options)
    return 0
