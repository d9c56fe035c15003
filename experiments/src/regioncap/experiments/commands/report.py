"""The command that tells of a study in one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.reporting.make import ReportOptions, make_report


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """One HTML page of a study, without network: tables, learning curves, bars, costs, plots of a search, captions.

    regioncap report runs/scenes --out report.html
    regioncap report runs/tune --out tune.html                       a search, by its folder
    regioncap report NAME --storage postgresql://me@db/tune --out tune.html    or by its name
    """

    study: tyro.conf.Positional[Path]
    """Folder that `regioncap ablate`, `train` or `tune` wrote, or the name of an Optuna study in --storage."""
    options: Annotated[ReportOptions, tyro.conf.arg(name="")]


def report_command(arguments: Sequence[str]) -> int:
    """Write the report. Status 2 if the study is not there."""
    command = parse(ReportCommand, "regioncap report", arguments)
    page, markdown, latex = make_report(command.study, command.options)
    print(f"Report: {page} ({page.stat().st_size / 2**20:.1f} MiB); tables: {markdown}, {latex}")
    return 0
