"""What a report shows of an Optuna study: its plots and its best trials."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from regioncap.experiments.reporting.tables import ReportTable
from regioncap.experiments.tuning.budget import requeue
from regioncap.experiments.tuning.figures import tuning_figures
from regioncap.experiments.tuning.shared_study import read_study
from regioncap.experiments.tuning.storage import StorageError, journal_of, open_storage
from regioncap.experiments.unreachable import UnreachableError

RECORD = "tune.json"
"""What marks a folder of `regioncap tune`."""
_TITLES = {
    "history": "History of the trials",
    "importance": "Importance of the settings",
    "slices": "CIDEr over each setting",
    "contour": "CIDEr over two settings",
    "parallel": "Every trial as a line",
    "curves": "Learning curves of the trials",
    "pareto": "Front of CIDEr and latency",
}
_BEST = 10
_DPI = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningSection:
    """An Optuna study as a report shows it."""

    name: str
    figures: tuple[dict[str, str], ...]
    """Each with `title` and `picture`, a `data:` address."""
    best: ReportTable


def open_study(folder: Path, storage: str | None) -> optuna.Study:
    """The study of a folder of `regioncap tune`; `storage` stands in for an address that needs a password.

    Raises UnreachableError if it cannot be reached.
    """
    try:
        return read_study(folder, storage)
    except (StorageError, KeyError) as error:
        raise UnreachableError(_line(error)) from error


def find_study(name: str, storage: str) -> optuna.Study:
    """A study by its name in a storage. Raises UnreachableError if either is not there."""
    journal = journal_of(storage, Path())
    if journal is not None and not journal.is_file():
        raise UnreachableError(f"--storage {storage}: no such journal file")
    try:
        opened = open_storage(storage, Path(), requeue)
        return optuna.load_study(study_name=name, storage=opened)
    except StorageError as error:
        raise UnreachableError(_line(error)) from error
    except KeyError as error:
        there = ", ".join(sorted(summary.study_name for summary in optuna.get_all_study_summaries(opened))) or "none"
        raise UnreachableError(f"--storage {storage} has no study {name!r}; there are: {there}") from error


def tuning_section(study: optuna.Study) -> TuningSection:
    """Its plots and its best trials. Raises ValueError if no trial has finished."""
    figures = tuning_figures(study)
    if not figures:
        raise ValueError(f"no trial of the study {study.study_name!r} has finished: there is nothing to report yet")
    shown = []
    for name, figure in figures.items():
        png = io.BytesIO()
        figure.savefig(png, dpi=_DPI, format="png")
        picture = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        shown.append({"title": _TITLES.get(name, name), "picture": picture})
        figure.clear()
    return TuningSection(name=study.study_name, figures=tuple(shown), best=_best(study))


def _best(study: optuna.Study) -> ReportTable:
    """The best finished trials, by the first objective."""
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    complete.sort(key=lambda trial: (-trial.values[0], trial.number))
    names = list(dict.fromkeys(name for trial in complete for name in trial.params))
    objectives = study.metric_names or ["CIDEr on dev (%)", "CPU ms a caption"][: len(study.directions)]
    rows = tuple(
        (
            f"{trial.number}",
            *(f"{value:.1f}" for value in trial.values),
            *(_said(trial.params.get(name)) for name in names),
            _start(trial),
        )
        for trial in complete[:_BEST]
    )
    counts = {state: sum(trial.state == state for trial in trials) for state in (TrialState.PRUNED, TrialState.FAIL)}
    note = (
        f"The {len(rows)} best of {len(complete)} finished trials; {counts[TrialState.PRUNED]} more were pruned and "
        f"{counts[TrialState.FAIL]} failed."
    )
    head = ("trial", *objectives, *names, "began as")
    return ReportTable(title=f"Best trials of {study.study_name}", head=head, rows=rows, note=note)


def _start(trial: FrozenTrial) -> str:
    """Why a trial was there from the beginning, if it was."""
    return str(trial.user_attrs.get("start", ""))


def _said(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
