"""Scaling curves as log-log figures, one for each axis."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regioncap.experiments.benchmarking.scaling import Curve

_COLOURS = ("#0b7fab", "#d9822b", "#3c8d5a", "#8a4fa3", "#c0392b", "#8a919e", "#4fb3d4", "#b8a000")
_TITLES = {"time": "ms of a call", "memory": "MiB that a call adds"}


def draw_axis(curves: Sequence[Curve], axis: str) -> Figure:
    """All curves along an axis: time at the left and, where there is any, memory at the right.

    The legend has each curve's exponent with its standard error. Raises ValueError if no curve lies along the axis.
    """
    own = [curve for curve in curves if curve.axis == axis]
    if not own:
        there = ", ".join(sorted({curve.axis for curve in curves})) or "none"
        raise ValueError(f"no curve lies along {axis!r}; there are curves along: {there}")
    quantities = [quantity for quantity in _TITLES if any(curve.quantity == quantity for curve in own)]
    figure = Figure(figsize=(5.2 * len(quantities), 3.9), layout="constrained")
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    names = list(dict.fromkeys((curve.stage, curve.name) for curve in own))
    for panel, quantity in zip(panels, quantities, strict=True):
        for curve in own:
            if curve.quantity == quantity:
                _draw(panel, curve, _COLOURS[names.index((curve.stage, curve.name)) % len(_COLOURS)])
        panel.set(xscale="log", yscale="log", xlabel=axis, ylabel=_TITLES[quantity])
        sizes = sorted({x for curve in own for x, _ in curve.points})
        panel.set_xticks(sizes, [f"{size:,g}" for size in sizes], rotation=45 if len(sizes) > 6 else 0)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize="small")
    return figure


def _draw(panel: Axes, curve: Curve, colour: str) -> None:
    sizes, values = zip(*curve.points, strict=True)
    shown = [1e3 * value for value in values] if curve.quantity == "time" else values
    label = curve.name
    if curve.exponent is not None:
        label += f": {curve.exponent.slope:.2f} ± {curve.exponent.error:.2f}"
    panel.plot(sizes, shown, "o-", color=colour, markersize=4, label=label)
