"""The plots of a study: history, importance, slices, contour, parallel coordinates, curves, front."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from regioncap.experiments.tuning.axes import axis_of
from regioncap.experiments.tuning.budget import START
from regioncap.experiments.tuning.parameter_figures import contour, parallel, slices
from regioncap.experiments.tuning.results import best_trials

_CONTOUR = ("graph.k", "graph.sigma")
_FEWEST = 4
"""Finished trials below which importance and contours say nothing."""
_BLUE, _ORANGE, _GREY = "#3b6ea5", "#d9822b", "#9aa5b1"


def tuning_figures(study: optuna.Study) -> dict[str, Figure]:
    """Name -> figure, those that the study has the trials for; none for a study without a finished trial.

    `history`, `importance`, `slices`, `contour` (K and sigma, or the two fields that matter most), `parallel`,
    `curves` of a study with one objective, `pareto` of one with two. The caller closes them.
    """
    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if not complete:
        return {}
    figures = {"history": _history(study, complete)}
    importances = _importances(study, complete)
    names = list(importances) or list(complete[0].params)
    if importances:
        figures["importance"] = _importance(study, importances)
    figures["slices"] = slices(complete, names, _title(study))
    pair = _CONTOUR if all(name in names for name in _CONTOUR) else tuple(names[:2])
    if len(pair) == 2 and len(complete) >= _FEWEST:
        figures["contour"] = contour(complete, (pair[0], pair[1]), _title(study))
    if len(names) > 1:
        figures["parallel"] = parallel(complete, names, _title(study))
    if len(study.directions) > 1:
        figures["pareto"] = _pareto(study, complete)
    elif any(trial.intermediate_values for trial in complete):
        figures["curves"] = _curves(study)
    return figures


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each as NAME.png and close it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        draft = folder / f".{name}.png"
        figure.savefig(draft, dpi=150)
        draft.replace(folder / f"{name}.png")
        plt.close(figure)


def _title(study: optuna.Study) -> str:
    return f"Study {study.study_name}"


def _history(study: optuna.Study, complete: list[FrozenTrial]) -> Figure:
    """CIDEr of every trial in the order of numbers, and the best so far."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    feasible = [trial for trial in complete if all(value <= 0 for value in trial.constraints.values())]
    others = [trial for trial in complete if trial not in feasible]
    numbers, values = [trial.number for trial in feasible], [trial.values[0] for trial in feasible]
    pruned = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.PRUNED and trial.values]
    axes.scatter(numbers, values, s=26, color=_BLUE, label="finished", zorder=3)
    if pruned:
        last = [trial.values[0] for trial in pruned]
        axes.scatter([t.number for t in pruned], last, s=24, marker="x", color=_GREY, label="pruned, its last value")
    if others:
        away = [trial.values[0] for trial in others]
        axes.scatter([t.number for t in others], away, s=26, facecolors="none", edgecolors=_GREY, label="too slow")
    if values:
        best = np.maximum.accumulate(values)
        axes.step([*numbers, max(t.number for t in (*complete, *pruned))], [*best, best[-1]], where="post",
                  color=_ORANGE, label="best so far")  # fmt: skip
    starts = [trial for trial in complete if START in trial.user_attrs]
    for trial in starts:
        axes.annotate(trial.user_attrs[START], (trial.number, trial.values[0]), xytext=(6, -11), fontsize=8,
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="trial", ylabel=study.metric_names[0] if study.metric_names else "CIDEr on dev (%)")
    axes.set_title(f"{_title(study)}: {len(complete)} finished, {len(pruned)} pruned", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return figure


def _importances(study: optuna.Study, complete: list[FrozenTrial]) -> dict[str, float]:
    if len(complete) < _FEWEST:
        return {}
    target = None if len(study.directions) == 1 else _first
    try:
        return dict(get_param_importances(study, target=target))
    except (ValueError, RuntimeError):  # all values alike
        return {}


def _first(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _importance(study: optuna.Study, importances: Mapping[str, float]) -> Figure:
    figure, axes = plt.subplots(figsize=(6.5, 0.9 + 0.42 * len(importances)), layout="constrained")
    names = list(importances)[::-1]
    bars = axes.barh([axis_of(name).label for name in names], [importances[name] for name in names], color=_BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_xlim(0, 1.12 * max(1e-9, *importances.values()))
    axes.set_xlabel("share of the importance for CIDEr (PED-ANOVA)")
    axes.set_title(_title(study), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(study: optuna.Study) -> Figure:
    """CIDEr on dev over the evaluations of a trial: what pruning looks at."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    best = {trial.number for trial in best_trials(study)}
    styles = {TrialState.COMPLETE: (_BLUE, "finished"), TrialState.PRUNED: (_GREY, "pruned")}
    said = set()
    for trial in study.get_trials(deepcopy=False):
        if trial.state not in styles or not trial.intermediate_values:
            continue
        colour, label = styles[trial.state]
        width, order = 1.0, 2
        if trial.number in best:
            colour, label, width, order = _ORANGE, f"trial {trial.number}, the best", 2.2, 4
        points = sorted(trial.intermediate_values.items())
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, marker=".", zorder=order, alpha=0.8,
                  label=None if label in said else label)  # fmt: skip
        said.add(label)
    axes.set(xlabel="evaluation of the trial", ylabel="CIDEr on the curve's dev images, greedy (%)")
    axes.set_title(_title(study), fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _pareto(study: optuna.Study, complete: list[FrozenTrial]) -> Figure:
    figure, axes = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
    front = sorted(study.best_trials, key=lambda trial: trial.values[1])
    numbers = {trial.number for trial in front}
    beaten = [trial for trial in complete if trial.number not in numbers]
    axes.scatter([t.values[1] for t in beaten], [t.values[0] for t in beaten], s=24, color=_GREY, label="beaten")
    axes.plot([t.values[1] for t in front], [t.values[0] for t in front], marker="o", color=_ORANGE, label="front",
              drawstyle="steps-post", zorder=3)  # fmt: skip
    for trial in front:
        axes.annotate(str(trial.number), (trial.values[1], trial.values[0]), xytext=(5, -10), fontsize=8,
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="CPU ms a caption (one thread, encoders left out)", ylabel="CIDEr on dev (%)")
    axes.set_title(f"{_title(study)}: front between CIDEr and latency", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return figure
