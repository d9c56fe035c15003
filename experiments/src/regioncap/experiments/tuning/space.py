"""What a study varies: config fields by their dotted names, each with a range or a list of choices.

graph.k=3:10                integers 3 to 10
train.lr=1e-4:1e-2:log      a float, uniform in its logarithm
train.steps=200:800:100     in steps of 100
graph.metric=spatial,semantic,mixed     one of these
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import FixedTrial, Trial

from regioncap.experiments.config import Experiment
from regioncap.experiments.tuning.config_fields import value_of, with_values
from regioncap.graph import RegionGraphConfig
from regioncap.guidance import SemanticGuidanceConfig

PAPER: Mapping[str, Any] = {"graph.k": 5, "objective.alpha1": 0.7, "objective.alpha2": 0.3}
"""Table 2. The paper names sigma and lambda without a value: there the config's own stand."""

SYMBOLS = {
    "graph.k": "K",
    "graph.sigma": "sigma",
    "objective.alpha1": "alpha1",
    "objective.alpha2": "alpha2",
    "objective.gate_lambda": "lambda",
}
"""What the paper calls a field."""
_FIXED = ("preset", "seed")
_INPUTS = ("data", "encoders", "dim", "vocabulary", "banks", "language", "decoder.weights")
"""What `prepare` reads."""
_SIGMA = "graph.sigma"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The distributions of the varied fields. What lies outside stays as the base experiment says."""

    distributions: Mapping[str, BaseDistribution]
    """Field -> where its values come from."""

    def to_json(self) -> str:
        """As the study keeps it."""
        return json.dumps({name: distribution_to_json(each) for name, each in self.distributions.items()})

    @staticmethod
    def from_json(text: str) -> "Space":
        """The inverse of `to_json`."""
        return Space(distributions={name: json_to_distribution(each) for name, each in json.loads(text).items()})

    def varies_inputs(self, base: Experiment) -> bool:
        """Whether what is made once for a study (features, tokenizer, banks, language) differs between its trials."""
        learns = base.language.captions is not None  # its decoder is that of the trial
        parts = (*_INPUTS, "decoder") if learns else _INPUTS
        return any(name == part or name.startswith(f"{part}.") for name in self.distributions for part in parts)

    def lines(self) -> list[str]:
        """What is varied, for people, a line each."""
        return [f"{name} {_range(each)}" for name, each in self.distributions.items()]

    def suggest(self, trial: Trial | FixedTrial, base: Experiment, own: Sequence[str] = ()) -> Experiment:
        """The experiment of a trial; the fields of `own` keep the base's value whatever the trial's parameter says.

        A base value that no number stands for (sigma None) is tried so: its parameter tells the sampler where in the
        range it belongs. Raises ValueError naming the field if the values do not go together.
        """
        values = {name: _suggested(trial, name, each) for name, each in self.distributions.items()}
        return with_values(base, {name: value for name, value in values.items() if name not in own})


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A point that is tried before the sampler's first."""

    name: str
    parameters: dict[str, Any]
    own: tuple[str, ...] = ()
    """See `Space.suggest`."""


def default_space(base: Experiment, mean_distance: float | None) -> Space:
    """K, sigma, alpha1, alpha2 and lambda, as far as the experiment has them.

    sigma ranges over a factor of four to both sides of `mean_distance`, the mean distance of neighbours in these data:
    far below it all weights are about 0, far above about 1. lambda and alpha2 appear in eq. 19 as a product alone.
    """
    ranges: dict[str, BaseDistribution] = {}
    if isinstance(base.graph, RegionGraphConfig) and base.graph.metric != "self":
        ranges["graph.k"] = IntDistribution(2, 10)
        if mean_distance is not None and base.graph.edge_weight == "prior":
            ranges[_SIGMA] = FloatDistribution(_rounded(mean_distance / 4), _rounded(mean_distance * 4), log=True)
    ranges["objective.alpha1"] = FloatDistribution(0.0, 1.5)
    if isinstance(base.guidance, SemanticGuidanceConfig):
        ranges["objective.alpha2"] = FloatDistribution(0.0, 1.0)
        ranges["objective.gate_lambda"] = FloatDistribution(1e-4, 1e-1, log=True)
    return Space(distributions=ranges)


def read_space(base: Experiment, vary: Sequence[str]) -> Space:
    """The space that `--vary` names. Raises ValueError naming the word that cannot be read, with the way out."""
    distributions = {}
    for word in vary:
        name, equals, values = word.partition("=")
        name = name.replace("-", "_")
        if not equals or not values:
            raise ValueError(f"--vary {word}: want FIELD=LOW:HIGH[:log|:STEP] or FIELD=A,B,C")
        if name in _FIXED:
            raise ValueError(f"--vary {word}: {name} is no setting to tune; for the mean over seeds there is --seeds")
        if name in distributions:
            raise ValueError(f"--vary {word}: {name} is varied twice")
        try:
            distributions[name] = _read(value_of(base, name), values)
            for value in _ends(distributions[name]):
                with_values(base, {name: value})
        except ValueError as error:
            raise ValueError(f"--vary {word}: {error}") from error
    return Space(distributions=distributions)


def starts(base: Experiment, space: Space, mean_distance: float | None) -> list[Start]:
    """The paper's values and the base experiment's own, where they lie in the space; each point once."""
    own = {name: value_of(base, name) for name in space.distributions}
    paper = own | {name: value for name, value in PAPER.items() if name in own}
    points: list[Start] = []
    for title, values in (("the paper's values", paper), ("the preset's values", own)):
        kept = tuple(n for n, value in values.items() if value is None and not _contains(space.distributions[n], None))
        known = {name: value for name, value in values.items() if name not in kept}
        if _SIGMA in kept and mean_distance is not None:
            known[_SIGMA] = mean_distance  # what None comes to, about
        inside = all(_contains(space.distributions[name], value) for name, value in known.items())
        if inside and all(known != point.parameters for point in points):
            points.append(Start(name=title, parameters=known, own=kept))
    return points


def short(parameters: Mapping[str, Any]) -> str:
    """A trial's parameters in one line, for people."""
    return ", ".join(f"{SYMBOLS.get(name, name)} {said(value)}" for name, value in parameters.items())


def said(value: Any) -> str:
    """A parameter's value, for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _range(distribution: BaseDistribution) -> str:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return "in " + ", ".join(map(str, choices))
        case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
            return f"from {said(low)} to {said(high)}{', logarithmic' if log else ''}"
    raise AssertionError(distribution)


def _suggested(trial: Trial | FixedTrial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
    raise ValueError(f"the study varies {name} by a {type(distribution).__name__}, which this version does not know")


def _read(current: Any, values: str) -> BaseDistribution:
    if is_dataclass(current) or isinstance(current, tuple | list | dict):
        raise ValueError("this field is no single value; vary the fields below it by their names")
    if ":" not in values:
        choices = [_scalar(choice) for choice in values.split(",")]
        if len(set(choices)) < 2:
            raise ValueError("want two choices or more, as FIELD=A,B, or a range, as FIELD=LOW:HIGH")
        return CategoricalDistribution(choices)
    low, high, *rest = (_scalar(part) for part in values.split(":"))
    numbers = [part for part in (low, high, *rest) if isinstance(part, int | float) and not isinstance(part, bool)]
    log = rest == ["log"]
    if len(rest) > 1 or len(numbers) != 2 + len(rest) - log or isinstance(current, bool | str):
        raise ValueError(
            "want numbers, as LOW:HIGH, LOW:HIGH:log or LOW:HIGH:STEP, for a field that holds a number "
            f"(it holds {current!r})"
        )
    if low >= high or (log and low <= 0):
        raise ValueError(f"want LOW below HIGH{', and above 0 for log' if log else ''}")
    step = None if log or not rest else rest[0]
    if isinstance(current, int):
        if not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"this field holds a whole number (now {current}); want whole numbers")
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _ends(distribution: BaseDistribution) -> Sequence[Any]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices
        case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
            return low, high
    raise AssertionError(distribution)


def _scalar(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if value is None:
        return False
    return bool(distribution._contains(float(value)))


def _rounded(value: float) -> float:
    """To two digits: the same range on machines whose sums differ in the last."""
    return round(value, 1 - math.floor(math.log10(value)))
