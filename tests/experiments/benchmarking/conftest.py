"""Runs of the benchmarks that never were: figures are drawn, records are what bench files keep."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from regioncap.experiments.benchmarking.machine import Machine
from regioncap.experiments.benchmarking.measure import CLOCK
from regioncap.experiments.benchmarking.record import STAGES, Point, Ratio, StageRecord
from regioncap.experiments.benchmarking.results import BenchResults, CaseResult


class StandIn:
    """Does what pytest-benchmark's fixture does, in a test."""

    def __init__(self) -> None:
        self.group: str | None = None
        self.extra_info: dict[str, Any] = {}
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[]))

    def pedantic(
        self,
        target: Callable[[], object],
        *,
        rounds: int,
        warmup_rounds: int,
        setup: Callable[[], None] | None = None,
    ) -> object:
        for _ in range(rounds):
            if setup is not None:
                setup()
            started = CLOCK()
            target()
            self.stats.stats.data.append(CLOCK() - started)
        return None


@pytest.fixture
def stand_in() -> StandIn:
    """In the place of the `benchmark` fixture, which a test of a test cannot have."""
    return StandIn()


MACHINE = Machine(
    cpu="A CPU", capability="AVX2", cores=4, torch="2.14", torchvision="0.29", transformers="5", python="3.11",
    commit="0123456789abcdef", load=0.5,
)  # fmt: skip


def _record_of(stage: str = "graph", case: str = "KNN", p50_s: float = 0.01, **more: Any) -> StageRecord:
    values = {"device": "cpu", "images": 8, "sizes": {"regions": 36, "dim": 512}, "p95_s": 1.2 * p50_s} | more
    return StageRecord(stage=stage, case=case, p50_s=p50_s, **values)


def _case_of(record: StageRecord, rounds: int = 15, spread: float = 0.02, seed: int = 0) -> CaseResult:
    """With rounds around the record's median."""
    drawn = record.p50_s * (1 + spread * np.random.default_rng(seed).standard_normal(rounds))
    return CaseResult(file=f"bench_{record.stage.replace(' ', '_')}.py", record=record, rounds=tuple(drawn.tolist()))


def _results_of(cases: Sequence[CaseResult], **more: Any) -> BenchResults:
    values = {"machine": MACHINE, "started": "2025-11-26 06:35", "set": "standard"} | more
    return BenchResults(seconds={case.file: 10.0 for case in cases}, cases=tuple(cases), **values)


@pytest.fixture(scope="session")
def invent_bench() -> Callable[..., BenchResults]:
    """A whole run: every step of the pipeline, a null stage, peers, curves; `speed` divides all times."""

    def invent(speed: float = 1.0, seed: int = 0, **machine: Any) -> BenchResults:
        step = {"pipeline": True, "parameters": 1000, "flops": 1e9, "peak_share": 0.5}
        cases = [
            _case_of(
                _record_of(stage, "as Table 2 has it", 0.01 * 2**place / speed, peak_mib=10.0 + place, **step),
                seed=seed,
            )
            for place, stage in enumerate(STAGES)
        ]
        total = sum(case.record.p50_s for case in cases)
        cases.append(_case_of(_record_of("captioner", "end to end", 1.02 * total, peak_mib=900.0), seed=seed))
        cases.append(_case_of(_record_of("graph", "no graph", 1e-5 / speed**2, null=True), seed=seed))
        ratio = Ratio(peer="PyG", median=1.5 * speed, low=1.4 * speed, high=1.6 * speed)
        slower = Ratio(peer="<b>&faiss", quantity="memory", median=0.8, low=0.7, high=0.9)
        cases.append(_case_of(_record_of("graph", "GAT", 0.02 / speed, ratios=(ratio, slower)), seed=seed))
        for regions in (10.0, 100.0, 1000.0):
            point = Point(curve="GAT", axis="regions", value=regions)
            cases.append(
                _case_of(_record_of("graph", "GAT", 1e-6 * regions**2 / speed, point=point, peak_mib=regions / 2))
            )
        return _results_of(cases, machine=replace(MACHINE, **machine))

    return invent


@pytest.fixture(scope="session")
def record_of() -> Callable[..., StageRecord]:
    """A record of a stage and case with a median, and of anything else."""
    return _record_of


@pytest.fixture(scope="session")
def case_of() -> Callable[..., CaseResult]:
    """A record with rounds around its median."""
    return _case_of


@pytest.fixture(scope="session")
def results_of() -> Callable[..., BenchResults]:
    """A run of these cases."""
    return _results_of
