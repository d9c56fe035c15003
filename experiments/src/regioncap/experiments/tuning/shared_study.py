"""A study that several commands share: the first to come makes it, the others join, and all agree on what it is."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage

from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import flatten, from_dict, to_dict
from regioncap.experiments.tuning.budget import OWN, START, requeue
from regioncap.experiments.tuning.config_fields import value_of
from regioncap.experiments.tuning.options import TuneOptions
from regioncap.experiments.tuning.space import Space, Start, read_space
from regioncap.experiments.tuning.storage import StorageError, open_storage

_SETTINGS, _READY = "settings", "ready"
"""Attributes of the study."""
_RECORD = "tune.json"
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStudy:
    """A study, and what all commands that work on it agree on."""

    study: optuna.Study
    base: Experiment
    """What trials vary; each command's own, which differs from the first's by paths alone."""
    space: Space
    created: bool
    """Whether this command made it."""


def join_study(
    storage: BaseStorage, base: Experiment, options: TuneOptions, make: Callable[[], tuple[Space, list[Start]]]
) -> SharedStudy:
    """Make the study of `options.study_name`, or join it; `make` gives the space and the first points of a new one.

    Raises ValueError naming the setting in which this command differs from the one that made the study.
    """
    name = options.study_name
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=options.directions)
        created = True
    except DuplicatedStudyError:
        study, created = optuna.load_study(study_name=name, storage=storage), False
        _wait_until_ready(study)
    if _READY not in study.user_attrs:  # new, or its maker died over it
        space, starts = make()
        study.set_user_attr(_SETTINGS, _settings(base, options) | {"space": space.to_json()})
        study.set_metric_names(options.metric_names)
        for start in starts:
            study.enqueue_trial(start.parameters, {START: start.name, OWN: list(start.own)}, skip_if_exists=True)
        study.set_user_attr(_READY, True)
        return SharedStudy(study=study, base=base, space=space, created=created)
    stored = study.user_attrs[_SETTINGS]
    _refuse_other_settings(name, stored, base, options)
    space = Space.from_json(stored["space"])
    if options.vary and read_space(base, options.vary) != space:
        raise ValueError(
            f"the study {name!r} varies {', '.join(space.distributions)} over ranges that --vary does not repeat: "
            "leave --vary out to go on with it, or take another --name and --out"
        )
    return SharedStudy(study=study, base=base, space=space, created=False)


def base_of(study: optuna.Study) -> Experiment:
    """The experiment that a study's trials vary, as its first command had it. Raises ConfigError if it does not fit."""
    return from_dict(Experiment, study.user_attrs[_SETTINGS]["base"], study.study_name)


def space_of(study: optuna.Study) -> Space:
    """What a study varies."""
    return Space.from_json(study.user_attrs[_SETTINGS]["space"])


def _settings(base: Experiment, options: TuneOptions) -> dict[str, Any]:
    return {
        "base": to_dict(base),
        "objective": options.objective,
        "seeds": options.seeds,
        "max_latency": options.max_latency,
    }


def _refuse_other_settings(name: str, stored: Mapping[str, Any], base: Experiment, options: TuneOptions) -> None:
    wanted = _settings(base, options)
    differ = [
        f"--{key.replace('_', '-')} {stored[key]} (here {wanted[key]})"
        for key in ("objective", "seeds", "max_latency")
        if stored[key] != wanted[key]
    ]
    before = flatten(from_dict(Experiment, stored["base"], f"the study {name!r}"))
    now = flatten(base)
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key) and not _is_path(base, key):
            differ.append(f"{key} {before.get(key)} (here {now.get(key)})")
    if differ:
        raise ValueError(
            f"the study {name!r} was begun with {', '.join(sorted(differ))}: repeat its settings, or take another "
            "--name and --out"
        )


def _is_path(base: Experiment, key: str) -> bool:
    """Machines keep the same data in different places."""
    try:
        return isinstance(value_of(base, key), Path)
    except ValueError:
        return False


def _wait_until_ready(study: optuna.Study) -> None:
    """While another command sets the study up."""
    until = time.monotonic() + _WAIT_S
    while _READY not in study.user_attrs and time.monotonic() < until:
        time.sleep(0.1)


def record_study(out: Path, name: str, storage: str) -> None:
    """Say in `out` which study it belongs to, for `read_study` and for people."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _RECORD).write_text(json.dumps({"storage": storage, "name": name}, indent=1) + "\n")


def read_study(out: Path, storage: str | None = None) -> optuna.Study:
    """The study of a folder that `regioncap tune` wrote; `storage` stands in for an address with a password.

    Raises StorageError if the folder holds none or its storage cannot be reached.
    """
    try:
        record = json.loads((out / _RECORD).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise StorageError(f"{out} is no folder of `regioncap tune`: {_RECORD} is missing or torn") from error
    opened = open_storage(storage or record["storage"], out, requeue)
    return optuna.load_study(study_name=record["name"], storage=opened)
