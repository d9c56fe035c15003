"""What arms cost: parameters of every stage, and CPU seconds of training."""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from regioncap.experiments.arms import UNTRAINED
from regioncap.experiments.reporting.finished import FinishedRun
from regioncap.experiments.reporting.tables import ReportTable

STAGES = {
    "clip_head": "CLIP-style head",
    "text_projection": "text projection",
    "adapter": "adapter",
    "graph": "graph",
    "fusion": "fusion",
    "keyword_heads": "keyword heads (taught before)",
    "guidance": "guidance",
    "prefix": "prefix",
    "decoder": "decoder",
}
"""A captioner's modules, from left to right."""


def cost_table(arms: Mapping[str, Sequence[FinishedRun]]) -> ReportTable:
    """An arm a row: what it trains, what each stage holds, what training took."""
    trained = {arm: runs for arm, runs in arms.items() if arm not in UNTRAINED}
    sizes = {arm: stage_parameters(runs[0].folder / "checkpoint") for arm, runs in trained.items()}
    present = [stage for stage in STAGES if any(stage in own for own in sizes.values())]
    head = ("arm", "training, CPU s", "images per CPU s", "trained", *(STAGES[stage] for stage in present))
    rows = tuple(
        (
            arm,
            _mean([run.train_cpu_s for run in runs], ",.0f"),
            _mean([rate for run in runs for rate in _rates(run)], ".0f"),
            f"{runs[0].parameters:,}",
            *(f"{sizes[arm].get(stage, 0):,}" for stage in present),
        )
        for arm, runs in trained.items()
    )
    note = (
        "Mean ± standard deviation over seeds; dev evaluations are left out of the CPU seconds. Trained: parameters "
        "that move in either phase. The other columns count all parameters of a stage, frozen ones and keyword banks "
        "too; 0: the arm has no such stage."
    )
    return ReportTable(title="Cost of each arm", head=head, rows=rows, note=note)


def stage_parameters(checkpoint: Path) -> dict[str, int]:
    """Stage -> numbers it holds, from the head of model.safetensors alone; empty where there is none."""
    counts: dict[str, int] = {}
    try:
        with (checkpoint / "model.safetensors").open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            tensors: dict[str, Any] = json.loads(file.read(length))
    except (OSError, struct.error, json.JSONDecodeError, MemoryError):
        return counts
    for name, tensor in tensors.items():
        if name != "__metadata__":
            stage = name.partition(".")[0]
            counts[stage] = counts.get(stage, 0) + prod(tensor["shape"])
    return counts


def _rates(run: FinishedRun) -> list[float]:
    """Images per CPU second at the end of training: over all steps."""
    rates = [point["images_per_cpu_s"] for point in run.history if "images_per_cpu_s" in point]
    return rates[-1:]


def _mean(values: Sequence[float], form: str) -> str:
    if not values:
        return "–"
    spread = f" ± {stdev(values):{form}}" if len(values) > 1 else ""
    return f"{fmean(values):{form}}{spread}"
