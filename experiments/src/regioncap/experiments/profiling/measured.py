"""What a profile found, before it is told."""

from dataclasses import dataclass
from typing import Literal

from regioncap.experiments.profiling.spans import LOADING, REST
from regioncap.experiments.profiling.trace import Trace

What = Literal["caption", "train", "encode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A stretch of the program without the profiler, which slows small operators most."""

    units: int
    images: int
    """Of all units together."""
    wall_s: float
    seconds: dict[str, float]
    """Stage -> its own seconds, over all threads."""
    waiting_s: float
    """Reading of pictures and stored features before work can go on, with what it takes to encode them there."""
    threads: int = 1

    @property
    def busy_s(self) -> float:
        """Of all stages and threads."""
        return sum(self.seconds.values())

    def share(self, stage: str) -> float:
        """Of a stage in the time of all."""
        return self.seconds.get(stage, 0.0) / self.busy_s if self.busy_s else 0.0

    @property
    def waiting(self) -> float:
        """Share of the time in which nothing is computed yet for want of data."""
        return self.waiting_s / self.busy_s if self.busy_s else 0.0

    @property
    def slowest(self) -> str:
        """The stage that takes most."""
        stages = {stage: seconds for stage, seconds in self.seconds.items() if stage not in (REST, LOADING)}
        return max(stages or self.seconds, key=lambda stage: self.seconds[stage])


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A whole profile."""

    what: What
    subject: str
    """As `the preset scenes` or `the checkpoint runs/mine/checkpoint`."""
    device: str
    unit: str
    """What is counted: `step` or `batch`."""
    timed: Timed
    trace: Trace
    traced_units: int
    notes: tuple[str, ...] = ()
