"""Latency and peak memory of the graph package on random boundary values, beside PyG's GATConv and the null stages.

    pytest benchmarks/bench_graph.py --benchmark-only -o addopts=--import-mode=importlib -o python_files='bench_*.py'

`knn` is the graph alone; `stage` is KNN and two layers by the paper's equations, forward and backward, which `pyg` does
with a torch-only KNN and GATConv; `best` adds the default geometry, residual and norm; `null` is the floor.
Times are CPU time on one thread, so that a busy machine does not count; wall time where there is a GPU.
`extra_info["peak_mib"]` is what a call adds: peak RSS of a fresh process over its level before the call (Linux), or
`max_memory_allocated` where there is a GPU. Takes about two minutes on one core.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.nn import functional
from torch_geometric.nn import GATConv

from regioncap.graph import FusionConfig, NoGraphConfig, RegionGraphConfig, knn_graph

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RAW = 1280
HEADS = 4
SHAPES = {"scenes": (32, 16, 128), "photos": (16, 49, 256), "paper": (16, 36, 512)}
LITERAL = RegionGraphConfig(heads=HEADS, edge_weight="none", geometry="none", residual="none", norm="none")
STAGES: dict[str, NoGraphConfig | RegionGraphConfig] = {
    "null": NoGraphConfig(),
    "stage": LITERAL,
    "best": RegionGraphConfig(heads=HEADS),
}
CASES = ("null", "knn", "stage", "best", "pyg", "fusion")


class PygGraph(nn.Module):
    """The same two layers as sparse message passing over the same edges."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GATConv(dim, dim // HEADS, heads=HEADS, add_self_loops=False, bias=False) for _ in range(LITERAL.layers)
        )

    def forward(
        self, regions: torch.Tensor, raw: torch.Tensor, boxes: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        images, slots, _ = regions.shape
        unit = functional.normalize(raw, dim=-1)
        loops = torch.eye(slots, dtype=torch.bool, device=raw.device)
        far = (1 - unit @ unit.mT).masked_fill(loops, torch.inf)
        near = torch.zeros_like(far, dtype=torch.bool).scatter_(2, far.topk(LITERAL.k, largest=False).indices, True)
        image, i, j = (near | near.mT | loops).nonzero(as_tuple=True)
        edges = torch.stack([image * slots + j, image * slots + i])
        nodes = regions.flatten(0, 1)
        for layer in self.layers:
            nodes = functional.elu(layer(nodes, edges))
        return nodes.reshape(images, slots, -1)


def call_of(case: str, shape: str) -> Callable[[], object]:
    """What one round of `case` does, on inputs made beforehand."""
    torch.manual_seed(0)
    images, slots, dim = SHAPES[shape]
    regions = torch.randn(images, slots, dim, device=DEVICE, requires_grad=True)
    raw = torch.randn(images, slots, RAW, device=DEVICE).relu()
    boxes = torch.rand(images, slots, 2, 2, device=DEVICE).sort(dim=2).values.flatten(2)
    valid = torch.ones(images, slots, dtype=torch.bool, device=DEVICE)
    g = torch.randn(images, dim, device=DEVICE)
    if case == "knn":
        return lambda: knn_graph(raw, boxes, valid)
    if case == "fusion":
        fusion = FusionConfig().build(dim).to(DEVICE)
        return lambda: fusion(g, regions, valid).sum().backward()
    if case == "pyg":
        peer = PygGraph(dim).to(DEVICE)
        return lambda: peer(regions, raw, boxes, valid).sum().backward()
    stage = STAGES[case].build(dim).to(DEVICE)
    return lambda: stage(regions, raw, boxes, valid).features.sum().backward()


def synchronised(call: Callable[[], object]) -> None:
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def added_mib(case: str, shape: str) -> float:
    """Memory that the calls of `case` add in this process; meaningful in a fresh one only."""
    call = call_of(case, shape)
    if DEVICE == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        synchronised(call)
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # imports peak higher than what stays: start the peak anew
    before = peak_rss_mib()
    for _ in range(3):
        call()
    return peak_rss_mib() - before


def peak_rss_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**10


@pytest.mark.benchmark(timer=time.perf_counter if DEVICE == "cuda" else time.process_time)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_graph_speed(benchmark: BenchmarkFixture, case: str, shape: str) -> None:
    torch.set_num_threads(1)
    call = call_of(case, shape)
    benchmark.group = f"graph, {shape}: B, N, D = {SHAPES[shape]}"
    benchmark.pedantic(synchronised, args=(call,), rounds=20, warmup_rounds=3)  # type: ignore[no-untyped-call]
    fresh = subprocess.run([sys.executable, __file__, case, shape], check=True, capture_output=True, text=True)
    benchmark.extra_info["peak_mib"] = round(float(fresh.stdout), 1)


if __name__ == "__main__":
    print(added_mib(sys.argv[1], sys.argv[2]))
