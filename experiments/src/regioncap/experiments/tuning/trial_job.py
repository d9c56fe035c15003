"""What a worker is told of a trial, and what it tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regioncap.experiments.config import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a trial trains on, made before it."""

    prepared: Path
    language: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsMaker:
    """How to make the inputs of a trial that varies what they depend on, such as `dim` or the banks."""

    cache: Path
    features: Path | None
    unreadable: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """One trial: the same experiment with some seeds, counting up from its own."""

    number: int
    experiment: Experiment
    inputs: Inputs | InputsMaker
    seeds: int = 1
    latency: bool = False
    """Whether to time the trained captioner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a finished trial found."""

    cider: tuple[float, ...]
    """Each seed's CIDEr of all dev images by the experiment's own search, as `regioncap train` has it. Fractions."""
    ms_per_caption: float | None
    """CPU milliseconds, one thread, from stored features to the words; None unless it was asked for."""
    train_cpu_s: float
    parameters: int
    captions: tuple[Mapping[str, str], ...]
    """Of each seed: image -> caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Values of the training curves, or of the curve on dev."""

    step: int
    """Optimiser steps, counted on from seed to seed."""
    values: Mapping[str, float]
    evaluation: int | None = None
    """Of a point on dev, counted from 1 and on from seed to seed: the worker waits for the answer whether to go on."""
    cider: float | None = None
    """Of a point on dev: the mean over the seeds so far, at this place of the curve. A fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last message of a trial."""

    result: TrialResult | None = None
    error: str | None = None
    """None beside no result: the trial was pruned."""
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """In the place of an end: the worker's process ended."""

    how: str


@dataclass(slots=True, kw_only=True)
class SeedCurves:
    """The curves on dev of a trial's seeds, for the mean over those so far."""

    values: dict[int, list[float]] = field(default_factory=dict)

    def add(self, place: int, cider: float) -> float:
        """Take a seed's value at the `place`-th evaluation; returns the mean over the seeds so far."""
        seen = self.values.setdefault(place, [])
        seen.append(cider)
        return sum(seen) / len(seen)
