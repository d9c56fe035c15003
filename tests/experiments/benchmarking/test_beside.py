from collections.abc import Callable
from typing import Any

import pytest
import torch

from regioncap.experiments.benchmarking.beside import run_beside
from regioncap.experiments.benchmarking.case import Benchmark, Case, Work
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


CASE = Case(stage="graph", name="product", make=product, arguments=(256,), rounds=(5, 9), memory=False)


def test_peers_take_turns_and_their_ratios_are_kept(stand_in: Any) -> None:
    assert isinstance(stand_in, Benchmark)
    x = torch.rand(256, 256)

    def peer(name: str, times: int) -> Callable[[], None]:
        def call() -> None:
            ORDER.append(name)
            _busy(x, times)

        return call

    work = product(256)
    ORDER.clear()
    record = run_beside(stand_in, CASE, work, {"slow": peer("slow", 8), "same": peer("same", 1)})
    assert ORDER == ["ours"] + ["slow", "same", "ours"] * 5  # the first counts FLOPs
    assert StageRecord.from_dict(stand_in.extra_info["record"]) == record
    assert record.flops == 20 * 2 * 256**3
    assert record.p50_s == sorted(stand_in.stats.stats.data)[2]
    slow, same = record.ratios
    assert (slow.peer, same.peer) == ("slow", "same")
    assert 4 < slow.median < 16
    assert 0.5 < same.median < 2


def test_without_peers_there_is_no_ratio(stand_in: Any) -> None:
    assert run_beside(stand_in, CASE, product(64), {}).ratios == ()


def test_no_peer_is_called_as_the_case_itself(stand_in: Any) -> None:
    with pytest.raises(ValueError, match='a peer cannot be called "ours"'):
        run_beside(stand_in, CASE, product(8), {"ours": lambda: None})
