"""How CIDEr goes with the parameters: slices, a contour over two of them, parallel coordinates."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation
from optuna.trial import FrozenTrial

from regioncap.experiments.tuning.axes import axes_of, end_labels
from regioncap.experiments.tuning.budget import START

_MAP = "viridis"
_CIDER = "CIDEr on dev (%)"


def slices(trials: Sequence[FrozenTrial], names: Sequence[str], title: str) -> Figure:
    """CIDEr against each parameter, every finished trial a point, dark to light in the order of trials."""
    axes = axes_of(trials, names)
    columns = min(3, len(axes))
    rows = -(-len(axes) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.2 + 2.9 * columns, 0.8 + 2.5 * rows), sharey=True, squeeze=False, layout="constrained"
    )
    cider = [trial.values[0] for trial in trials]
    for place, axis in zip(grid.flat, axes, strict=False):
        at = [axis.place(trial.params[axis.name]) for trial in trials]
        points = place.scatter(at, cider, c=[trial.number for trial in trials], cmap=_MAP, s=24)
        axis.dress(place, "x")
        place.grid(alpha=0.3)
    for place in grid.flat[len(axes) :]:
        place.set_visible(False)
    for row in grid:
        row[0].set_ylabel(_CIDER)
    figure.colorbar(points, ax=grid, label="trial", shrink=0.8)
    figure.suptitle(title, fontsize=11)
    return figure


def contour(trials: Sequence[FrozenTrial], pair: tuple[str, str], title: str) -> Figure:
    """CIDEr over two parameters: surfaces between the finished trials, which are the points."""
    figure, place = plt.subplots(figsize=(6.5, 4.8), layout="constrained")
    first, second = axes_of(trials, pair)
    # In logarithms for what is searched in logarithms, so that the triangles between points are those that one sees.
    x, y = (axis.along([trial.params[axis.name] for trial in trials]) for axis in (first, second))
    cider = np.array([trial.values[0] for trial in trials])
    try:
        shown = place.tricontourf(Triangulation(x, y), cider, levels=10, cmap=_MAP)
    except (RuntimeError, ValueError):  # all points on one line
        shown = None
    points = place.scatter(x, y, c=cider, cmap=_MAP, s=36, edgecolors="white", linewidths=0.8, zorder=3)
    place.use_sticky_edges = False  # the outermost points would be cut in half
    place.margins(0.06)
    _mark(place, trials, x.tolist(), y.tolist())
    first.dress(place, "x", logarithms=True)
    second.dress(place, "y", logarithms=True)
    figure.colorbar(shown or points, ax=place, label=_CIDER)
    place.set_title(title, fontsize=11)
    return figure


def parallel(trials: Sequence[FrozenTrial], names: Sequence[str], title: str) -> Figure:
    """Every finished trial as a line over the parameters, the best in front and lightest."""
    axes = axes_of(trials, names)
    figure, place = plt.subplots(figsize=(1.8 + 1.3 * len(axes), 4.4), layout="constrained")
    cider = np.array([trial.values[0] for trial in trials])
    columns = [axis.unit([trial.params[axis.name] for trial in trials]) for axis in axes]
    span = np.ptp(cider)
    columns.append((cider - cider.min()) / span if span else np.full(len(cider), 0.5))
    lines = np.stack(columns, axis=1)
    scale = Normalize(cider.min(), cider.max())
    colours = plt.get_cmap(_MAP)
    for row in np.argsort(cider):
        place.plot(lines[row], color=colours(scale(cider[row])), linewidth=1.4, alpha=0.85)
    for at, axis in enumerate(axes):
        _ends(place, at, *end_labels(axis, [trial.params[axis.name] for trial in trials]))
    _ends(place, len(axes), f"{cider.min():.1f}", f"{cider.max():.1f}")
    place.set_xticks(
        range(len(axes) + 1), [*(f"{axis.label}\n(log)" if axis.log else axis.label for axis in axes), "CIDEr"]
    )
    place.set_yticks([])
    place.set_ylim(-0.12, 1.12)
    place.grid(axis="x", alpha=0.6)
    figure.colorbar(plt.cm.ScalarMappable(scale, colours), ax=place, label=_CIDER)
    place.set_title(title, fontsize=11)
    return figure


def _mark(place: Axes, trials: Sequence[FrozenTrial], x: Sequence[float], y: Sequence[float]) -> None:
    """Name the points that the sampler did not choose: they stand where their own sigma is on the average."""
    for trial, at_x, at_y in zip(trials, x, y, strict=True):
        if START in trial.user_attrs:
            place.annotate(trial.user_attrs[START].removeprefix("the ").partition("'")[0], (at_x, at_y), xytext=(6, 6),
                           fontsize=8, textcoords="offset points",
                           bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.7})  # fmt: skip


def _ends(place: Axes, at: int, low: str, high: str) -> None:
    for y, text, align in ((-0.03, low, "top"), (1.03, high, "bottom")):
        place.text(at, y, text, ha="center", va=align, fontsize=8,
                   bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"})  # fmt: skip
