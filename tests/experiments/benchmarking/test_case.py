from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from regioncap.encoders.fast_linear import quicken
from regioncap.experiments.benchmarking.case import Benchmark, Case, Work, run_case
from regioncap.experiments.benchmarking.measure import DEVICE
from regioncap.experiments.benchmarking.peak import matmul_peak
from regioncap.experiments.benchmarking.record import Point, Ratio, StageRecord

BUILT: list[int] = []


def linear(width: int) -> Work:
    """A layer of this width on eight rows."""
    BUILT.append(width)
    layer, x = nn.Linear(width, width), torch.rand(8, width)
    return Work(call=lambda: layer(x), images=8, sizes={"width": width}, modules=(layer, nn.Sequential(layer)))


CASE = Case(stage="adapter", name="linear", make=linear, arguments=(256,), rounds=(4, 4))


def test_a_case_becomes_a_record(stand_in: Any) -> None:
    assert isinstance(stand_in, Benchmark)
    point = Point(curve="linear", axis="width", value=256.0)
    ratios = (Ratio(peer="another", median=2.0, low=1.0, high=3.0),)
    record = run_case(stand_in, replace(CASE, point=point, pipeline=True), ratios=ratios)
    assert StageRecord.from_dict(stand_in.extra_info["record"]) == record
    assert stand_in.group == "adapter"
    assert len(stand_in.stats.stats.data) == 4
    assert (record.stage, record.case, record.device, record.images) == ("adapter", "linear", DEVICE, 8)
    assert (record.sizes, record.point, record.ratios, record.pipeline) == ({"width": 256}, point, ratios, True)
    assert record.parameters == 256 * 257  # of modules that share it, counted once
    assert record.flops == 2 * 8 * 256 * 256
    assert record.peak_share == pytest.approx(record.flops / record.p50_s / matmul_peak())
    assert record.peak_mib is not None
    assert 0 <= record.peak_mib < 20


@pytest.mark.usefixtures("bfloat16")
def test_weights_of_frozen_layers_count_though_they_are_buffers() -> None:
    layer = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    quicken(layer, "bfloat16")
    assert not list(layer.parameters())
    assert Work(call=int, images=1, sizes={}, modules=(layer,)).parameters == 9 * 16 + 17 * 4


def test_memory_may_be_left_out(stand_in: Any) -> None:
    BUILT.clear()
    assert run_case(stand_in, replace(CASE, memory=False)).peak_mib is None
    assert BUILT == [256]


def test_rounds_fill_the_time_within_their_bounds(stand_in: Any) -> None:
    run_case(stand_in, replace(CASE, memory=False, rounds=(3, 12), seconds=60.0))
    assert len(stand_in.stats.stats.data) == 12


def test_ids_tell_cases_apart() -> None:
    assert CASE.id == "adapter, linear"
    assert replace(CASE, point=Point(curve="linear", axis="width", value=256.0)).id == "adapter, linear, width 256"
