"""The finished runs of a study's folder, read from disk: what the study itself wrote, and no model."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regioncap.experiments.arms import UNTRAINED
from regioncap.experiments.metrics import MEASURES, METRICS
from regioncap.experiments.progress import track
from regioncap.experiments.reporting.rows import ScoredRun
from regioncap.experiments.scores_file import SCORES
from regioncap.experiments.worker import RESULT


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun(ScoredRun):
    """One arm with one seed, as it lies on disk."""

    seed: int
    folder: Path
    history: tuple[Mapping[str, float], ...] = ()
    """Points of the training curves: `step` and values."""
    per_image: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Dev image -> metric -> score, as a fraction; of an arm's first seed alone."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """Dev image -> caption; of an arm's first seed alone."""
    warnings: tuple[str, ...] = ()


def read_runs(folder: Path) -> list[FinishedRun]:
    """Every finished run, by arm as the study made them, then by seed; unfinished and torn ones are left out.

    `folder` is a study's, or that of a single run. Raises ValueError if there is none.
    """
    places = list(_places(folder))
    runs: list[FinishedRun] = []
    seen: set[str] = set()
    for place in track(places, description="read runs", total=len(places)):
        run = _read(place, folder, seen)
        if run is not None:
            runs.append(run)
            seen.add(run.arm)
    if not any(run.arm not in UNTRAINED for run in runs):
        raise ValueError(
            f"{folder} holds no finished run; want a folder that `regioncap ablate`, `train` or `tune` wrote"
            + _others(folder)
        )
    return runs


def is_study(folder: Path) -> bool:
    """Whether a folder looks like that of a study or a single run."""
    return (folder / RESULT).is_file() or next(folder.glob(f"*/seed*/{RESULT}"), None) is not None


def _places(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in UNTRAINED if (folder / name / SCORES).is_file())
    if (folder / RESULT).is_file():
        yield folder
    yield from sorted(
        (file.parent for file in folder.glob(f"*/seed*/{RESULT}")),
        key=lambda place: (place.parent.name, _number(place.name)),
    )


def _number(name: str) -> int:
    digits = name.removeprefix("seed")
    return int(digits) if digits.isdigit() else 0


def _read(place: Path, folder: Path, seen: set[str]) -> FinishedRun | None:
    """One run. Of the first run of an arm everything is kept, of the others what means and p are made of."""
    try:
        scores = json.loads((place / SCORES).read_text(encoding="utf-8"))
        untrained = place.name in UNTRAINED
        result = _untrained(place) if untrained else json.loads((place / RESULT).read_text(encoding="utf-8"))
        arm = str(result["arm"])
        first = arm not in seen
        images = scores["per_image"]
        metrics = [name for name in METRICS if name in scores["corpus"]]
        return FinishedRun(
            arm=arm,
            seed=int(result["experiment"]["seed"]),
            folder=place,
            corpus={name: value / 100 for name, value in scores["corpus"].items()},
            cider={image: row["CIDEr"] / 100 for image, row in images.items()},
            missing=scores["missing"],
            measures={name: _unprinted(name, own["value"]) for name, own in scores.get("measures", {}).items()},
            missing_measures=scores.get("missing_measures", {}),
            parameters=int(result["parameters"]),
            train_cpu_s=float(result["train_cpu_s"]),
            history=tuple({name: float(value) for name, value in point.items()} for point in result["history"]),
            per_image={image: {name: row[name] / 100 for name in metrics} for image, row in images.items() if first},
            captions={image: row["caption"] for image, row in images.items() if first},
            warnings=tuple(scores["warnings"]),
        )
    except (OSError, json.JSONDecodeError):
        return None  # it is being written, or its study was killed over it
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place} was written by another version ({type(error).__name__}: {error})") from error


def _unprinted(measure: str, value: float) -> float:
    """A measure's value as it was before it was written: the inverse of `in_print`."""
    return value / 100 if MEASURES[measure].unit == "percent" else value


def _untrained(place: Path) -> dict[str, Any]:
    """A row that trains nothing."""
    return {"arm": place.name, "experiment": {"seed": 0}, "parameters": 0, "train_cpu_s": 0.0, "history": []}


def _others(folder: Path) -> str:
    """The studies one folder below, for whoever named the folder of all."""
    if not folder.is_dir():
        return ""
    below = sorted(child.name for child in folder.iterdir() if child.is_dir() and is_study(child))
    return f"; below it there are {', '.join(below[:8])}" if below else ""
