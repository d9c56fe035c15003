"""One benchmark case from what it builds to its record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from regioncap.experiments.benchmarking.flops import count_flops
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE, Call, percentile, synchronised
from regioncap.experiments.benchmarking.memory import MEMORY, Plain, peak_mib
from regioncap.experiments.benchmarking.peak import matmul_peak
from regioncap.experiments.benchmarking.record import Point, Ratio, StageRecord

_LONG = 1.0
"""Seconds from which on a call is made no oftener than needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a case does, built: weights and inputs are there."""

    call: Call
    images: int
    """Images (for text encoders and metrics: captions) that one call takes."""
    sizes: Mapping[str, int | float | str]
    """Everything else that the cost depends on, by the names of DESIGN's notation."""
    modules: tuple[nn.Module, ...] = ()
    """Whose weights it works with."""

    def __call__(self) -> object:
        """Make the call."""
        return self.call()

    @property
    def parameters(self) -> int:
        """Numbers in the weights of the modules, each counted once; frozen layers may keep theirs as buffers."""
        named = [own for module in self.modules for own in (*module.named_parameters(), *module.named_buffers())]
        kept = (x for name, x in named if isinstance(x, nn.Parameter) or name.split(".")[-1] in ("weight", "bias"))
        return sum({id(x): x.numel() for x in kept}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of one stage."""

    stage: str
    name: str
    make: Callable[..., Work]
    """Stands at the top of its module, so that a fresh process can build the work again."""
    arguments: tuple[Plain, ...] = ()
    pipeline: bool = False
    """A step of the pipeline at Table 2's sizes."""
    null: bool = False
    """The stage's null form."""
    point: Point | None = None
    seconds: float = 1.0
    """About so long it is timed, in `rounds` at least and at most."""
    rounds: tuple[int, int] = (3, 31)
    memory: bool = True
    """Whether its peak memory is measured, which builds it once more."""
    full: bool = False
    """Measured in the full set alone."""

    @property
    def id(self) -> str:
        """Names the case in a test's name."""
        at = "" if self.point is None else f", {self.point.axis} {self.point.value:g}"
        return f"{self.stage}, {self.name}{at}"


@runtime_checkable
class Benchmark(Protocol):
    """pytest-benchmark's fixture, as far as it is needed."""

    group: str | None
    extra_info: dict[str, Any]
    stats: Any

    def pedantic(
        self, target: Call, *, rounds: int, warmup_rounds: int, setup: Callable[[], None] | None = None
    ) -> object:
        """Make so many rounds of one call each, each after `setup`, whose time does not count."""
        ...


def run_case(benchmark: Benchmark, case: Case, *, ratios: tuple[Ratio, ...] = ()) -> StageRecord:
    """Time a case on one thread by the fixture, count, measure its memory, and keep the record with the fixture.

    The test wants `@pytest.mark.benchmark(timer=CLOCK)`. The first call, which is not timed, warms up.
    """
    torch.set_num_threads(1)
    work = case.make(*case.arguments)
    started = CLOCK()
    flops = count_flops(work.call)  # warms up, too
    once = CLOCK() - started
    if once < case.seconds:  # counting takes time of its own, which only matters where calls are short
        started = CLOCK()
        synchronised(work.call)
        once = CLOCK() - started
    rounds = max(case.rounds[0], min(case.rounds[1], round(case.seconds / max(once, 1e-9))))
    benchmark.group = case.stage
    benchmark.pedantic(lambda: synchronised(work.call), rounds=rounds, warmup_rounds=0)
    record = recorded(case, work, benchmark.stats.stats.data, flops=flops)
    del work  # its weights are not for the fresh process to have a second time in memory
    if case.memory:
        record = replace(record, peak_mib=peak_mib(case.make, *case.arguments, calls=1 if once > _LONG else 2))
    record = replace(record, ratios=ratios)
    benchmark.extra_info["record"] = record.to_dict()
    return record


def recorded(case: Case, work: Work, seconds: list[float], *, flops: float | None) -> StageRecord:
    """The record of a case from the seconds of its rounds."""
    p50, p95 = percentile(seconds, 0.5), percentile(seconds, 0.95)
    return StageRecord(
        stage=case.stage,
        case=case.name,
        device=DEVICE,
        images=work.images,
        sizes=dict(work.sizes),
        p50_s=p50,
        p95_s=p95,
        memory=MEMORY,
        parameters=work.parameters,
        flops=flops,
        peak_share=None if flops is None else flops / p50 / matmul_peak(),
        null=case.null,
        pipeline=case.pipeline,
        point=case.point,
    )
