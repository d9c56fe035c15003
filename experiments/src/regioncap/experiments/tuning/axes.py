"""How a parameter is drawn: its name, its scale and its ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

_DECADES = 100
"""Ratio of the ends of an axis above which powers of ten are ticks enough."""
_LABELS = {
    "graph.k": "K",
    "graph.sigma": "$\\sigma$",
    "objective.alpha1": "$\\alpha_1$",
    "objective.alpha2": "$\\alpha_2$",
    "objective.gate_lambda": "$\\lambda$",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterAxis:
    """One parameter as numbers along an axis."""

    name: str
    label: str
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def place(self, value: Any) -> float:
        """Where a value lies: the number itself, or the index of a choice."""
        return float(self.choices.index(value)) if self.choices else float(value)

    def along(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """Places as the search sees them: logarithms of what is searched in logarithms."""
        places = np.array([self.place(value) for value in values])
        return np.log10(places) if self.log else places

    def unit(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """The same, scaled to [0, 1] over what there is."""
        places = self.along(values)
        span = np.ptp(places)
        return (places - places.min()) / span if span else np.full(len(places), 0.5)

    def dress(self, axes: Axes, which: Literal["x", "y"], *, logarithms: bool = False) -> None:
        """Label, scale and ticks of one side of a plot; `logarithms` where `along` was drawn, and not `place`."""
        axis: Axis = getattr(axes, f"{which}axis")
        axes.set(**{f"{which}label": self.label})
        if self.log:
            if not logarithms:
                axes.set(**{f"{which}scale": "log"})
            low, high = getattr(axes, f"get_{which}lim")()
            if logarithms:
                low, high = 10**low, 10**high
            ticks = _round_values(low, high)
            axis.set_ticks(np.log10(ticks) if logarithms else ticks, [f"{tick:g}" for tick in ticks])
            axis.set_minor_formatter(NullFormatter())
        elif self.choices:
            axis.set_ticks(range(len(self.choices)), [str(choice) for choice in self.choices])
        elif self.whole:
            axis.set_major_locator(MaxNLocator(integer=True))


def axis_of(name: str, distribution: BaseDistribution | None = None) -> ParameterAxis:
    """The axis of a config field."""
    label = _LABELS.get(name, name)
    match distribution:
        case CategoricalDistribution(choices=choices):
            return ParameterAxis(name=name, label=label, choices=tuple(choices))
        case IntDistribution(log=log):
            return ParameterAxis(name=name, label=label, log=log, whole=True)
        case FloatDistribution(log=log):
            return ParameterAxis(name=name, label=label, log=log)
    return ParameterAxis(name=name, label=label)


def axes_of(trials: Sequence[FrozenTrial], names: Sequence[str]) -> list[ParameterAxis]:
    """The axes of parameters that all of the trials have."""
    return [axis_of(name, trials[0].distributions[name]) for name in names if all(name in t.params for t in trials)]


def end_labels(axis: ParameterAxis, values: Sequence[Any]) -> tuple[str, str]:
    """What stands at the two ends of a parallel axis."""
    ends = (min(values, key=axis.place), max(values, key=axis.place))
    shown = [f"{end:.2g}" if isinstance(end, float) and math.isfinite(end) else str(end) for end in ends]
    return shown[0], shown[1]


def _round_values(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis between two values; powers of ten alone, where there are enough of them."""
    steps = (1.0,) if high / low > _DECADES else (1.0, 2.0, 5.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for power in powers for step in steps if low <= (tick := step * 10.0**power) <= high]
