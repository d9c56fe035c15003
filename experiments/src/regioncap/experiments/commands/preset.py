"""The preset that a command's first word names, or the config file that stands in for it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from regioncap.experiments.checkpoint import experiment_to_go_on
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import from_dict
from regioncap.experiments.data.sources import DATA_KINDS, DataSource
from regioncap.experiments.presets import PRESETS


def preset_of(command: str, arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The preset's name and the words after it. Raises ValueError naming the presets if there is none."""
    if arguments and arguments[0] in PRESETS:
        return arguments[0], arguments[1:]
    if arguments and arguments[0] in ("-h", "--help"):
        return next(iter(PRESETS)), arguments
    got = repr(arguments[0]) if arguments else "nothing"
    raise ValueError(f"regioncap {command} wants a preset first ({' or '.join(PRESETS)}), got {got}")


def starting_point(command: str, arguments: Sequence[str]) -> tuple[str, Experiment, Sequence[str]]:
    """The preset's name, the experiment that flags then change, and the words after the preset.

    That is the preset's or, with `--config FILE`, the file's or, with `--init-from CHECKPOINT`, the checkpoint's, whose
    preset the first word must name; with `--data KIND` its data are of that kind. Raises ValueError if file or
    checkpoint holds no experiment of this version.
    """
    preset, rest = preset_of(command, arguments)
    source, rest = chosen_data(rest)
    file, checkpoint = _path_behind("--config", rest), _path_behind("--init-from", rest)
    flag, experiment = "", PRESETS[preset]()
    if file is not None:
        flag, experiment = f"--config {file}", read_experiment(file)
    elif checkpoint is not None:
        flag, experiment = f"--init-from {checkpoint}", experiment_to_go_on(checkpoint)
    if experiment.preset != preset:
        raise ValueError(
            f"{flag} holds settings of the preset {experiment.preset!r}, not {preset!r}: "
            f"regioncap {command} {experiment.preset} {flag}"
        )
    return preset, experiment if source is None else replace(experiment, data=source), rest


def chosen_data(arguments: Sequence[str]) -> tuple[DataSource | None, Sequence[str]]:
    """The data that `--data KIND` names, whose fields are then flags, and the words without it.

    Raises ValueError naming the kinds if it is none of them.
    """
    source: DataSource | None = None
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, kind = word.partition("=")
        if name != "--data":
            rest.append(word)
            continue
        kind = kind if equals else next(words, "")
        if kind not in DATA_KINDS:
            raise ValueError(f"--data wants {', '.join(DATA_KINDS)}, got {kind!r}; a folder is --data.root DIR")
        source = DATA_KINDS[kind]()
    return source, rest


def read_experiment(file: Path) -> Experiment:
    """An experiment that `regioncap tune` wrote. Raises ValueError naming what is wrong with the file."""
    try:
        values = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"--config {file} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"--config {file} is no JSON file ({error})") from error
    if not isinstance(values, dict) or values.get("type") != Experiment.__name__:
        raise ValueError(f"--config {file} holds no experiment; want best.json of `regioncap tune`")
    return from_dict(Experiment, values, str(file))


def _path_behind(flag: str, arguments: Sequence[str]) -> Path | None:
    """Read before the other flags, because it is what they change."""
    path = None
    for word, following in zip(arguments, [*arguments, None][1:], strict=True):
        if word.startswith(f"{flag}="):
            path = Path(word.partition("=")[2])
        elif word == flag and following is not None:
            path = Path(following)
    return path
