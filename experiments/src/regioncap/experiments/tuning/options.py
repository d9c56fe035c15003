"""How a study is run; what it varies around is the experiment's matter."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from regioncap.experiments.cache import cache_folder
from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.tuning.storage import HEARTBEAT_S

Objective = Literal["cider", "cider,latency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """How to tune."""

    trials: int = 50
    """Trials of the whole study, over all commands that work on it. Those that fail or are pruned count; those that are
    lost with a killed worker do not, and are run again."""
    hours: float | None = None
    """Start no trial after so many hours of this command; those that run are ended in peace."""
    storage: str | None = None
    """Where the trials are kept: a journal file in OUT unless given; another journal file; or, for several machines,
    postgresql://USER@HOST/DATABASE (password in PGPASSWORD or ~/.pgpass)."""
    name: str | None = None
    """Name of the study in its storage, by which it is resumed and joined; OUT's name unless given."""
    out: Path
    """Folder of this command: best.json, trials.csv, plots. Each machine that works on a study has one of its own."""
    objective: Objective = "cider"
    """`cider` of dev, or a front between it and the milliseconds of a caption. Only the first can be pruned."""
    max_latency: float | None = None
    """Milliseconds of CPU that a caption may take (one thread, encoders left out); dearer settings count as no good."""
    seeds: int = 1
    """Trainings of a trial, with seeds counting up from the experiment's; the objective is their mean."""
    vary: tuple[str, ...] = ()
    """What to vary, as FIELD=LOW:HIGH, FIELD=LOW:HIGH:log, FIELD=LOW:HIGH:STEP or FIELD=A,B,C with any dotted config
    field. Unless given: graph.k, graph.sigma, objective.alpha1, objective.alpha2, objective.gate_lambda."""
    prune: Literal["median", "none"] = "median"
    """`median` ends a trial whose CIDEr on dev lies below the median of the finished ones at the same evaluation."""
    warmup_trials: int = 5
    """Finished trials before the first is pruned."""
    workers: int = 0
    """Trials that train at the same time here, one core each; 0: as many as there are cores."""
    heartbeat_s: int = HEARTBEAT_S
    """Seconds between two signs of life in a database; after four without, a trial is taken for lost."""
    cache: Path = field(default_factory=cache_folder)
    """Where scenes, features and language weights are kept between studies."""
    features: Path | None = None
    """A folder that `regioncap extract` wrote, to read features from; None encodes what the cache lacks."""
    unreadable: Literal["fail", "leave-out"] = "fail"
    """What becomes of pictures that cannot be read."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        for name in ("trials", "seeds", "heartbeat_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        for name in ("workers", "warmup_trials"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} must not be negative, got {getattr(self, name)}")
        for name in ("hours", "max_latency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
        if self.max_latency is not None and self.objective != "cider":
            raise ValueError("--max-latency bounds what --objective cider,latency trades off: give one of the two")

    @property
    def study_name(self) -> str:
        """By which the study is resumed and joined."""
        return self.name or self.out.resolve().name

    @property
    def latency(self) -> bool:
        """Whether trials are timed."""
        return self.objective == "cider,latency" or self.max_latency is not None

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Optuna's, one an objective."""
        return ["maximize", "minimize"] if self.objective == "cider,latency" else ["maximize"]

    @property
    def metric_names(self) -> list[str]:
        """As plots and Optuna's dashboard call the objectives."""
        return list(OBJECTIVES[self.objective])


OBJECTIVES = {
    "cider": ("CIDEr on dev (%)",),
    "cider,latency": ("CIDEr on dev (%)", "CPU ms a caption"),
}
