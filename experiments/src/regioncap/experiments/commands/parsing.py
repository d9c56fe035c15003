"""How every command reads its words, and how it says that something is wrong."""

import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

Command = TypeVar("Command")


def parse(kind: type[Command], program: str, arguments: Sequence[str], default: Command | None = None) -> Command:
    """Words as a dataclass: config fields are dotted flags. Leaves the process with help, or with what is wrong."""
    config = (tyro.conf.AvoidSubcommands,)
    if default is None:
        return tyro.cli(kind, prog=program, args=arguments, config=config)
    return tyro.cli(kind, prog=program, args=arguments, default=default, config=config)


def fail(message: str, status: int = 1) -> int:
    """Say in one line what is wrong; returns the exit status."""
    print(f"regioncap: {' '.join(message.split())}", file=sys.stderr)
    return status
