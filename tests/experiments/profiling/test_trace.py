"""What the profiler's events are turned into."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from regioncap.experiments.profiling.figure import memory_figure
from regioncap.experiments.profiling.spans import BACKWARD, Spans
from regioncap.experiments.profiling.trace import Trace, memory_of, traced


class First(nn.Module):
    def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, weight)


class Second(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, Path]:
    """A matrix product, a sigmoid, and their gradients."""
    file, kept = tmp_path_factory.mktemp("trace") / "trace.json.gz", []
    methods = ((First, "forward", "first"), (Second, "forward", "second"))
    x, weight = torch.randn(64, 32), torch.randn(32, 16, requires_grad=True)
    with Spans(torch.device("cpu"), methods) as spans, traced(file, kept.append):
        y = Second()(First()(x, weight))
        total = y.sum()
        with spans.span(BACKWARD):
            total.backward()
    return kept[0], file


def test_trace_is_gzipped_json_with_every_span(seen: tuple[Trace, Path]) -> None:
    with gzip.open(seen[1], "rt") as stored:
        events = json.load(stored)["traceEvents"]
    spans = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert spans == ["stage: first", "stage: second", "stage: backward"]


def test_operators_belong_to_their_stage_and_gradients_to_the_stage_they_are_of(seen: tuple[Trace, Path]) -> None:
    stages: dict[str, set[str]] = {}
    for operator in seen[0].operators:
        stages.setdefault(operator.stage, set()).add(operator.name)
        assert operator.ms >= 0
        assert operator.calls >= 1
    assert "aten::mm" in stages["first"]
    assert "aten::sigmoid" in stages["second"]
    assert "aten::mm" in stages["first, backward"]
    assert "aten::sigmoid_backward" in stages["second, backward"]
    assert "aten::sum" in stages["between stages"]
    assert not any("aten::mm" in names for stage, names in stages.items() if not stage.startswith("first"))


def test_memory_adds_up_allocations_and_frees() -> None:
    def move(ts: float, size: int, device: int = 0) -> dict[str, object]:
        return {"name": "[memory]", "ts": ts, "args": {"Bytes": size, "Device Type": device}}

    span = {"name": "stage: graph", "ph": "X", "cat": "user_annotation", "ts": 1e6, "dur": 2e6}
    memory = memory_of([move(3e6, -(2**20)), move(1e6, 2**20), move(2e6, 2**21), span])
    assert memory.seconds == (0.0, 1.0, 2.0)
    assert memory.mib == (1.0, 3.0, 2.0)
    assert memory.stages == (("graph", 0.0, 2.0),)
    assert memory.device == "CPU"
    # Where there is a GPU its memory is shown, and the host's left out.
    assert memory_of([move(1e6, 2**20), move(2e6, 2**22, device=1)]).mib == (4.0,)
    assert memory_of([]).mib == ()


def test_figure_shows_the_peak_and_every_stage(seen: tuple[Trace, Path]) -> None:
    memory = seen[0].memory
    assert max(memory.mib) > 0
    figure = memory_figure(memory)
    curve, below = figure.axes
    assert f"{max(memory.mib):,.0f} MiB" in {text.get_text() for text in curve.texts}
    (bars,) = below.collections
    assert len(bars.get_paths()) == len(memory.stages) == 3
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"first", "second", "backward"}
