"""How to run a study, and how it says that it did not end well."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from regioncap.experiments.arms import ARMS, STANDARD
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.metrics import MeasuresConfig, MetricsConfig


class StudyError(RuntimeError):
    """Some arms did not finish; the message names them. What did finish is on disk and in MLflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Where a study or a single training writes and reads, and what measures it."""

    out: Path
    """Folder that results are written to."""
    resume: bool = False
    """Take up what is in `out`: finished arms are kept, a killed training goes on."""
    cache: Path = field(default_factory=cache_folder)
    """Where scenes, features and language weights are kept between studies."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from; None encodes what the cache lacks."""
    unreadable: Literal["fail", "leave-out"] = "fail"
    """What becomes of pictures that cannot be read."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    measures: MeasuresConfig = field(default_factory=MeasuresConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions(RunOptions):
    """How to run a study; what it varies is the experiment's and the arms' matter."""

    seeds: int = 1
    """Seeds per arm, counting up from the experiment's own."""
    arms: tuple[str, ...] = STANDARD
    """Which arms; their order is the table's."""
    jobs: int = 0
    """Arms that train at the same time, one core each; 0: as many as there are cores."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown:
            raise ValueError(f"--arms: no arm {unknown[0]!r}; there are {', '.join(map(repr, ARMS))}")
