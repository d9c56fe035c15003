"""Fields of an experiment by their dotted names: to read one, and to set several at once."""

import difflib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import flatten, from_dict, to_dict


def value_of(experiment: Experiment, name: str) -> Any:
    """The value of a field such as `graph.k`. Raises ValueError naming near ones if there is none of this name."""
    value: Any = experiment
    for part in name.split("."):
        if not is_dataclass(value) or not hasattr(value, part):
            raise ValueError(_unknown(experiment, name))
        value = getattr(value, part)
    return value


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The experiment with these fields set, all at once, so that no value is judged beside an old one.

    Raises ValueError (as every config does) naming a field whose value does not fit.
    """
    stored = to_dict(experiment)
    for name, value in values.items():
        value_of(experiment, name)
        *path, last = name.split(".")
        place = stored
        for part in path:
            place = place[part]
        place[last] = value
    return from_dict(Experiment, stored, "experiment")


def _unknown(experiment: Experiment, name: str) -> str:
    names = list(flatten(experiment))
    last = name.split(".")[-1]
    near = [key for key in names if key.split(".")[-1] == last]
    near += [key for key in difflib.get_close_matches(name, names, n=3) if key not in near]
    hint = f"; near to it: {', '.join(near[:3])}" if near else ""
    return f"no config field {name!r} in this experiment{hint}"
