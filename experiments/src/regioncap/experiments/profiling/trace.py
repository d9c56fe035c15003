"""torch's profiler over some units of work: a trace for Perfetto, operators by stage, memory over time."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from regioncap.experiments.profiling.spans import BACKWARD, PREFIX

_OUTSIDE = "between stages"
_MEMORY = "[memory]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What one kind of operator took in one stage."""

    stage: str
    name: str
    calls: int
    ms: float
    """Of its own, the operators that it calls left out; on a GPU its kernels' time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCurve:
    """Bytes that torch holds beyond those at the trace's start, over its time."""

    device: str
    seconds: tuple[float, ...]
    mib: tuple[float, ...]
    stages: tuple[tuple[str, float, float], ...]
    """Stage, start and end in seconds, of the outermost spans first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the profiler saw."""

    operators: tuple[Operator, ...]
    """The dearest first."""
    memory: MemoryCurve


@contextmanager
def traced(file: Path, take: Callable[[Trace], None]) -> Iterator[None]:
    """Profile what is done within; write `file` (gzipped JSON that ui.perfetto.dev opens) and hand over the rest."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it tells of every start and of GPUs that are not there
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities, profile_memory=True) as profiler:
        yield
    file.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(file))
    with gzip.open(file, "rt", encoding="utf-8") as stored:
        events = json.load(stored)["traceEvents"]
    take(Trace(operators=tuple(operators_of(profiler.events())), memory=memory_of(events)))


def operators_of(events: list[FunctionEvent]) -> list[Operator]:
    """Operators by stage, the dearest first.

    An operator belongs to the innermost span around it. One of the backward pass belongs to the stage of the forward
    operator that it is the gradient of, which autograd's sequence numbers tell: `graph, backward`.
    """
    on_gpu = any(event.device_time_total for event in events)
    stages = {event.id: stage_of(event) for event in events}
    forward = {
        (event.thread, event.sequence_nr): stages[event.id]
        for event in events
        if event.sequence_nr >= 0 and not event.fwd_thread and stages[event.id] not in (BACKWARD, _OUTSIDE)
    }
    sums: dict[tuple[str, str], tuple[int, float]] = {}
    for event in events:
        if event.name.startswith(PREFIX) or event.name == _MEMORY:
            continue
        stage = stages[event.id]
        if stage == BACKWARD:
            stage = _origin(event, forward)
        micros = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        calls, spent = sums.get((stage, event.name), (0, 0.0))
        sums[stage, event.name] = calls + 1, spent + micros / 1000
    found = [Operator(stage=stage, name=name, calls=calls, ms=ms) for (stage, name), (calls, ms) in sums.items()]
    return sorted(found, key=lambda operator: -operator.ms)


def stage_of(event: FunctionEvent) -> str:
    """The innermost span around an operator."""
    above: Any = event
    while above is not None:
        if above.name.startswith(PREFIX):
            return str(above.name.removeprefix(PREFIX))
        above = above.cpu_parent
    return _OUTSIDE


def memory_of(events: list[dict[str, Any]]) -> MemoryCurve:
    """From a trace's events: what was allocated less what was freed, of the GPU where there is one."""
    moves = [event for event in events if event.get("name") == _MEMORY]
    on_gpu = any(event["args"]["Device Type"] for event in moves)
    moves = [event for event in moves if bool(event["args"]["Device Type"]) == on_gpu]
    moves.sort(key=lambda event: event["ts"])
    spans = [event for event in events if event.get("ph") == "X" and str(event.get("name")).startswith(PREFIX)]
    spans = [event for event in spans if event.get("cat") == "user_annotation"]
    start = min((event["ts"] for event in (*moves, *spans)), default=0.0)
    held, curve = 0, []
    for event in moves:
        held += event["args"]["Bytes"]
        curve.append(((event["ts"] - start) / 1e6, held / 2**20))
    return MemoryCurve(
        device="GPU" if on_gpu else "CPU",
        seconds=tuple(second for second, _ in curve),
        mib=tuple(mib for _, mib in curve),
        stages=tuple(
            (span["name"].removeprefix(PREFIX), (span["ts"] - start) / 1e6, (span["ts"] + span["dur"] - start) / 1e6)
            for span in sorted(spans, key=lambda span: -span["dur"])
        ),
    )


def _origin(event: FunctionEvent, forward: dict[tuple[int, int], str]) -> str:
    """`graph, backward`; plain `backward` for what has no forward operator, such as adding up gradients."""
    above: Any = event
    while above is not None:
        if above.sequence_nr >= 0 and above.fwd_thread:
            stage = forward.get((above.fwd_thread, above.sequence_nr))
            return BACKWARD if stage is None else f"{stage}, {BACKWARD}"
        above = above.cpu_parent
    return BACKWARD
