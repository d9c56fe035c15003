"""What a report holds, gathered from a folder or an Optuna study; the page and the texts are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regioncap.experiments.arms import UNTRAINED, arm_named
from regioncap.experiments.benchmarking.results import BenchResults, read_results
from regioncap.experiments.metrics import METRICS
from regioncap.experiments.report import StudyRow, best_arms, cell_text, p_cell, table_legend
from regioncap.experiments.reporting.costs import cost_table
from regioncap.experiments.reporting.curves import learning_curves
from regioncap.experiments.reporting.finished import read_runs
from regioncap.experiments.reporting.gallery import gallery
from regioncap.experiments.reporting.rows import by_arm, study_rows
from regioncap.experiments.reporting.tables import ReportTable
from regioncap.experiments.reporting.tuning_section import (
    RECORD,
    TuningSection,
    find_study,
    open_study,
    tuning_section,
)
from regioncap.experiments.study_file import read_study_file
from regioncap.experiments.unreachable import UnreachableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is told of a study, in the order in which it is told."""

    title: str
    command: str
    rows: tuple[StudyRow, ...] = ()
    """The ablation's table; none for a search."""
    notes: tuple[str, ...] = ()
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """See `learning_curves`."""
    tuning: TuningSection | None = None
    tables: tuple[ReportTable, ...] = ()
    """Costs and trials."""
    bench: BenchResults | None = None
    """A run of the benchmarks."""
    gallery: Mapping[str, Any] = field(default_factory=dict)
    """See `gallery`; its arms are those of `rows`."""

    @property
    def table(self) -> ReportTable:
        """The ablation's table as text, mean and spread in one cell."""
        metrics = [metric for metric in METRICS if any(metric in row.metrics for row in self.rows)]
        rows = tuple(
            (row.arm, f"{row.seeds}", *(cell_text(row, metric, " ± ") for metric in metrics), p_cell(row))
            for row in self.rows
        )
        note = "\n".join(table_legend(self.rows))
        return ReportTable(title=self.title, head=("arm", "seeds", *metrics, "p"), rows=rows, note=note)

    @property
    def best(self) -> list[frozenset[int]]:
        """For each column of `table` the rows that print the highest mean."""
        winners = best_arms(self.rows)
        return [
            frozenset(number for number, row in enumerate(self.rows) if row.arm in winners.get(column, ()))
            for column in self.table.head
        ]


def gather(
    what: Path, *, storage: str | None = None, bench: Path | None = None, images: int = 100, seed: int = 0
) -> Report:
    """Read a folder of `regioncap ablate`, `train` or `tune`, or with `storage` the Optuna study of that name.

    Raises UnreachableError for a folder or study that is not there, ValueError for one without a finished run.
    """
    measured = None if bench is None else read_results(bench)
    if what.is_dir():
        if (what / RECORD).is_file():
            return _search(tuning_section(open_study(what, storage)), measured)
        return _ablation(what, measured, images, seed)
    if storage is None:
        raise UnreachableError(
            f"{what} is no folder; name one that `regioncap ablate`, `train` or `tune` wrote, or an Optuna study "
            "together with its --storage"
        )
    return _search(tuning_section(find_study(str(what), storage)), measured)


def _search(section: TuningSection, bench: BenchResults | None) -> Report:
    return Report(title=f"Search {section.name}", command="", tuning=section, tables=(section.best,), bench=bench)


def _ablation(folder: Path, bench: BenchResults | None, images: int, seed: int) -> Report:
    study = read_study_file(folder)
    arms = by_arm(read_runs(folder))
    rows = study_rows([run for runs in arms.values() for run in runs])
    said = {arm: known.says for arm in arms if (known := arm_named(arm)) is not None} | UNTRAINED
    notes = [f"{arm}: {said[arm]}" for arm in arms if arm in said]
    notes += list(dict.fromkeys(line for runs in arms.values() for run in runs for line in run.warnings))
    first = [runs[0] for runs in arms.values()]
    searches = sorted(file.parent for file in folder.glob(f"*/{RECORD}"))
    section = tuning_section(open_study(searches[0], None)) if searches else None
    tables = (cost_table(arms), *((section.best,) if section else ()))
    return Report(
        title=study.title,
        command=study.command,
        rows=tuple(rows),
        notes=tuple(notes),
        curves=learning_curves({arm: runs for arm, runs in arms.items() if arm not in UNTRAINED}),
        tuning=section,
        tables=tables,
        bench=bench,
        gallery=gallery(first, study, images, seed) if images else {},
    )
