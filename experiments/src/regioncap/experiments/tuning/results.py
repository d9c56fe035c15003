"""What a study found, as files: the best settings as configs that `regioncap train` takes, and every trial as a row."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console
from rich.table import Table

from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.tuning.budget import ATTEMPT, ERROR, OWN, START, is_lost
from regioncap.experiments.tuning.config_fields import with_values
from regioncap.experiments.tuning.space import SYMBOLS, Space, said

BEST = "best.json"
SEEDS_CIDER, MS, CPU_S = "cider_of_seeds", "ms_per_caption", "train_cpu_s"
"""User attributes of a finished trial."""


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials that no other beats, within the constraint, the highest CIDEr first; none may be.

    One, or with two objectives the front.
    """
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda trial: -trial.values[0])
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    feasible = [trial for trial in complete if all(value <= 0 for value in trial.constraints.values())]
    # The first of equals: an early trial is no worse, and a later one was drawn with more knowledge of the scores.
    return sorted(feasible, key=lambda trial: (-trial.values[0], trial.number))[:1]


def experiment_of(trial: FrozenTrial, base: Experiment) -> Experiment:
    """The settings of a trial."""
    own = trial.user_attrs.get(OWN, ())
    return with_values(base, {name: value for name, value in trial.params.items() if name not in own})


def said_of(trial: FrozenTrial) -> str:
    """A finished trial's figures, for people."""
    parts = [f"CIDEr {trial.values[0]:.1f}"]
    if trial.user_attrs.get(MS) is not None:
        parts.append(f"{trial.user_attrs[MS]:.1f} ms a caption")
    return ", ".join(parts)


def write_results(study: optuna.Study, base: Experiment, space: Space, out: Path) -> list[FrozenTrial]:
    """Write best.json, with two objectives best-<number>.json for the whole front, and trials.csv; returns the best."""
    best = best_trials(study)
    for old in out.glob("best*.json"):
        old.unlink()
    for trial in best[:1]:
        _write_config(trial, base, out / BEST)
    if len(study.directions) > 1:
        for trial in best:
            _write_config(trial, base, out / f"best-{trial.number}.json")
    write_whole(out / "trials.csv", _table(study.get_trials(deepcopy=False), list(space.distributions)))
    return best


def print_trials(study: optuna.Study, space: Space, count: int = 5) -> None:
    """The best trials, and those that stood there from the beginning, as a table."""
    table = Table(title=f"Study {study.study_name}", box=box.SIMPLE)
    names = [SYMBOLS.get(name, name) for name in space.distributions]
    for column in ("trial", *(study.metric_names or ()), *names, ""):
        table.add_column(column, justify="left" if column in ("trial", "") else "right")
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ranked = sorted(complete, key=lambda trial: (-trial.values[0], trial.number))
    best = {trial.number for trial in best_trials(study)}
    for rank, trial in enumerate(ranked):
        if rank < count or START in trial.user_attrs or trial.number in best:
            own = trial.user_attrs.get(OWN, ())
            values = ["own" if name in own else said(trial.params[name]) for name in space.distributions]
            note = ", ".join([*(["best"] if trial.number in best else []), trial.user_attrs.get(START, "")]).strip(", ")
            table.add_row(str(trial.number), *(f"{value:.1f}" for value in trial.values), *values, note)
    Console().print(table)


def write_trial(out: Path, number: int, found: Mapping[str, Any]) -> None:
    """Keep what a trial said and scored."""
    write_whole(out / "trials" / f"{number}.json", json.dumps(found, indent=1) + "\n")


def _write_config(trial: FrozenTrial, base: Experiment, file: Path) -> None:
    write_whole(file, json.dumps(to_dict(experiment_of(trial, base)), indent=1) + "\n")


def _table(trials: Sequence[FrozenTrial], names: Sequence[str]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "CIDEr", MS, *names, SEEDS_CIDER, CPU_S, "evaluations", "start", "attempt", ERROR])
    for trial in trials:
        attributes = trial.user_attrs
        own = attributes.get(OWN, ())
        rows.writerow(
            [
                trial.number,
                "lost" if is_lost(trial) else trial.state.name.lower(),
                "" if trial.values is None else f"{trial.values[0]:.3f}",
                "" if attributes.get(MS) is None else f"{attributes[MS]:.3f}",
                *("own" if name in own else trial.params.get(name, "") for name in names),
                " ".join(f"{value:.3f}" for value in attributes.get(SEEDS_CIDER, ())),
                "" if CPU_S not in attributes else f"{attributes[CPU_S]:.1f}",
                len(trial.intermediate_values),
                attributes.get(START, ""),
                attributes.get(ATTEMPT, 1),
                attributes.get(ERROR, ""),
            ]
        )
    return text.getvalue()
