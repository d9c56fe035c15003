from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regioncap.experiments.benchmarking.beside import run_beside
from regioncap.experiments.benchmarking.case import Benchmark, Case, Work
from regioncap.experiments.benchmarking.measure import CLOCK
from regioncap.experiments.benchmarking.record import StageRecord

ORDER: list[str] = []


def product(width: int) -> Work:
    x = torch.rand(width, width)

    def call() -> None:
        ORDER.append("ours")
        _busy(x, times=1)

    return Work(call=call, images=1, sizes={"width": width})


def _busy(x: torch.Tensor, times: int) -> None:
    for _ in range(20 * times):
        x @ x


class Fixture:
    """Stands in for pytest-benchmark's."""

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


CASE = Case(stage="graph", name="product", make=product, arguments=(256,), rounds=(5, 9), memory=False)


def test_peers_take_turns_and_their_ratios_are_kept() -> None:
    assert isinstance(Fixture(), Benchmark)
    fixture, x = Fixture(), torch.rand(256, 256)

    def peer(name: str, times: int) -> Callable[[], None]:
        def call() -> None:
            ORDER.append(name)
            _busy(x, times)

        return call

    work = product(256)
    ORDER.clear()
    record = run_beside(fixture, CASE, work, {"slow": peer("slow", 8), "same": peer("same", 1)})
    assert ORDER == ["ours"] + ["slow", "same", "ours"] * 5  # the first counts FLOPs
    assert StageRecord.from_dict(fixture.extra_info["record"]) == record
    assert record.flops == 20 * 2 * 256**3
    assert record.p50_s == sorted(fixture.stats.stats.data)[2]
    slow, same = record.ratios
    assert (slow.peer, same.peer) == ("slow", "same")
    assert 4 < slow.median < 16
    assert 0.5 < same.median < 2


def test_without_peers_there_is_no_ratio() -> None:
    assert run_beside(Fixture(), CASE, product(64), {}).ratios == ()


def test_no_peer_is_called_as_the_case_itself() -> None:
    with pytest.raises(ValueError, match='a peer cannot be called "ours"'):
        run_beside(Fixture(), CASE, product(8), {"ours": lambda: None})
