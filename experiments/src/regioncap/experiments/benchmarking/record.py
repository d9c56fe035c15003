"""What one benchmark says of one case, as pytest-benchmark keeps it in `extra_info`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Memory = Literal["rss", "allocator"]
"""Peak of a fresh process over its level before (CPU), or of the allocator (GPU)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A peer's time (or memory) over ours, both measured in turns in one run: above 1, ours is the better."""

    peer: str
    quantity: Literal["time", "memory"] = "time"
    median: float
    low: float
    high: float
    """Quartiles of the ratio over rounds."""

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.median <= self.high:
            raise ValueError(f"a ratio wants 0 < low <= median <= high, got {self.low}, {self.median}, {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The place of a case on a scaling curve."""

    curve: str
    """As `graph attention` or `decoder, beam`: one line of a figure."""
    axis: str
    """As `regions`, `K`, `words of the bank`, `beams`, `prefix tokens`, `images of a batch`, `pixels of a side`."""
    value: float

    def __post_init__(self) -> None:
        if self.value <= 0:
            raise ValueError(f"a point of a curve wants a positive value of {self.axis}, got {self.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One case of one stage.

    Times are seconds of one call on a batch, synchronised, after warm-up: CPU seconds of one thread on a CPU, so that a
    busy machine counts less, wall seconds on a GPU.
    """

    stage: str
    """As `graph`; the names of `STAGES` in the pipeline's order, or a stage beside it (`metrics`, `training step`)."""
    case: str
    """As `KNN` or `hybrid, 4 greedy tokens then 5 beams`."""
    device: str
    images: int
    """Images (for text encoders and metrics: captions) that one call takes."""
    sizes: Mapping[str, int | float | str]
    """Everything that the cost depends on, by the names of DESIGN's notation: regions, dim, K, beams, ..."""
    p50_s: float
    p95_s: float
    peak_mib: float | None = None
    memory: Memory = "rss"
    parameters: int = 0
    flops: float | None = None
    """Of one call, counted by torch; None where it cannot count."""
    peak_share: float | None = None
    """FLOPs per second over the machine's measured peak of a float32 matrix product."""
    null: bool = False
    """The stage's null form: what the measurement itself costs."""
    pipeline: bool = False
    """A step of the pipeline at Table 2's sizes: the steps add up to the captioner's time from end to end."""
    point: Point | None = None
    ratios: tuple[Ratio, ...] = ()

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 < self.p50_s <= self.p95_s:
            raise ValueError(
                f"{self.stage}, {self.case}: want images >= 1 and 0 < p50_s <= p95_s, "
                f"got {self.images}, {self.p50_s}, {self.p95_s}"
            )

    @property
    def images_per_s(self) -> float:
        """Of the median call."""
        return self.images / self.p50_s

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for `benchmark.extra_info`."""
        return asdict(self) | {"sizes": dict(self.sizes), "images_per_s": self.images_per_s}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StageRecord":
        """Back from `to_dict`, by way of JSON. Raises ValueError if a field is missing or of another version."""
        fields = {name: value for name, value in values.items() if name != "images_per_s"}
        try:
            fields["point"] = None if fields["point"] is None else Point(**fields["point"])
            fields["ratios"] = tuple(Ratio(**ratio) for ratio in fields["ratios"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no benchmark record of this version: {error}") from error


STAGES = (
    "preprocessing",
    "global encoder",
    "region encoder",
    "adapter",
    "graph",
    "fusion",
    "guidance",
    "prefix",
    "decoder",
)
"""The pipeline's stages in order, as a stacked bar shows them."""
