"""The pipeline's time by stages: where it goes, whether the steps add up, and what the paper's additions cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from regioncap.experiments.benchmarking.record import STAGES, Ratio
from regioncap.experiments.benchmarking.results import LIMITS, SUM_OF_STEPS, BenchResults

ENCODERS = ("preprocessing", "global encoder", "region encoder")
"""What a feature store spares all but the first time."""
NAMED_LIMITS = ("graph", "guidance")
"""What the paper names as its limits (sec. 5): memory of graph attention, latency of multi-scale alignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Seconds of a batch, stage by stage, at Table 2's sizes."""

    images: int
    seconds: dict[str, float]
    """Stage -> seconds, in the pipeline's order."""
    mib: dict[str, float]
    """Stage -> the most that a step of it adds, where it was measured."""
    end_to_end_s: float | None
    in_turns: Ratio | None = None
    """Sum of the steps over the whole, where both took turns: what other work on the machine changes least."""
    limits: Ratio | None = None
    """Of graph and guidance in the whole, in turns."""

    @property
    def sum_s(self) -> float:
        """Of all steps."""
        return sum(self.seconds.values())

    @property
    def gap(self) -> float | None:
        """By how much the steps together miss the whole in one call: 0.02 is 2 % more."""
        if self.in_turns is not None:
            return self.in_turns.median - 1
        return None if self.end_to_end_s is None else self.sum_s / self.end_to_end_s - 1

    def share(self, stages: Sequence[str], *, without: Sequence[str] = ()) -> float:
        """Of these stages in the sum, `without` others."""
        rest = sum(seconds for stage, seconds in self.seconds.items() if stage not in without)
        return sum(self.seconds.get(stage, 0.0) for stage in stages) / rest if rest else 0.0

    def ms(self, stage: str) -> float:
        """Milliseconds an image."""
        return 1000 * self.seconds[stage] / self.images

    @property
    def answer(self) -> str:
        """One line on the limits that the paper names."""
        whole, alone = self.share(NAMED_LIMITS), self.share(NAMED_LIMITS, without=ENCODERS)
        turns = f"; in turns with the whole {_share(self.limits)}" if self.limits else ""
        slowest = max(self.seconds, key=self.seconds.__getitem__)
        parts = [f"{stage} {self.share([stage]):.2%}" for stage in NAMED_LIMITS if stage in self.seconds]
        memory = [f"{stage} {self.mib[stage]:,.0f} MiB" for stage in (*NAMED_LIMITS, slowest) if stage in self.mib]
        return (
            f"Graph and guidance take {whole:.1%} of the pipeline's time ({', '.join(parts)}{turns}), {alone:.1%} "
            f"where features are stored; {slowest} takes {self.share([slowest]):.0%}."
            + (f" Memory that a batch of {self.images} adds: {', '.join(dict.fromkeys(memory))}." if memory else "")
        )

    @property
    def sum_text(self) -> str:
        """Whether the steps add up; empty where the whole was not measured."""
        if self.end_to_end_s is None or self.gap is None:
            return ""
        return (
            f"The steps add up to {1000 * self.sum_s / self.images:,.1f} ms an image, the whole in one call takes "
            f"{1000 * self.end_to_end_s / self.images:,.1f} ({self.gap:+.1%}"
            + (f", quartiles {_share(self.in_turns)} of the whole, in turns)." if self.in_turns else ").")
        )


def pipeline_of(results: BenchResults) -> Pipeline | None:
    """The steps of a run, added up by stages; None where none was measured.

    Raises ValueError if they are of different batches, which do not add up.
    """
    steps = [case.record for case in results.pipeline]
    if not steps:
        return None
    batches = sorted({record.images for record in steps})
    if len(batches) > 1:
        raise ValueError(f"steps of the pipeline are of batches of {batches} images, which do not add up")
    stages = [stage for stage in STAGES if any(record.stage == stage for record in steps)]
    end = results.end_to_end
    return Pipeline(
        images=batches[0],
        seconds={stage: sum(record.p50_s for record in steps if record.stage == stage) for stage in stages},
        mib={
            stage: max(known)
            for stage in stages
            if (known := [r.peak_mib for r in steps if r.stage == stage and r.peak_mib is not None])
        },
        end_to_end_s=None if end is None else end.record.p50_s * batches[0] / end.record.images,
        in_turns=None if end is None else end.share(SUM_OF_STEPS),
        limits=None if end is None else end.share(LIMITS),
    )


def _share(ratio: Ratio) -> str:
    return f"{ratio.low:.1%} to {ratio.high:.1%}"
