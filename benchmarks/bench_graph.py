"""The graph package beside PyTorch Geometric, and its parts one by one, on random boundary values.

    python benchmarks/bench_graph.py compare         # KNN + 2 layers, forward and backward: 18 shapes, both in turns
    python benchmarks/bench_graph.py scaling FILE    # the same up to 4,096 regions, time and memory as curves
    python benchmarks/bench_graph.py forms           # matrices against lists: where `relations.DENSE_UP_TO` is from
    python benchmarks/bench_graph.py bf16            # error of bfloat16 autocast
    pytest benchmarks/bench_graph.py --benchmark-only -o addopts=--import-mode=importlib -o python_files='bench_*.py'

The peer is what a PyG user writes: KNN by topk on float32 cosine (all images at once; row by row for large ones),
one edge_index for the batch, two `GATConv`s, ELU. Ours is the `paper` preset: the same equations, on float64 KNN.
Times are CPU time on one thread, so that a busy machine counts less; wall time where there is a GPU. The two sides
take turns, medians are compared. Memory is what three calls add: peak RSS of a fresh process over its level before
(Linux), or `max_memory_allocated` where there is a GPU. `compare` takes about five minutes on one core.
"""

import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv

from regioncap.graph import GRAPH_PRESETS, FusionConfig, NoGraphConfig, RegionGraphConfig, knn_graph, relations

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
DIM, K, LAYERS = 512, 5, 2
Shape = tuple[int, int, int]
"""Images B, regions N, heads H."""
COMPARED: list[Shape] = [(b, n, h) for b in (1, 16, 64) for n in (36, 49, 100) for h in (1, 4)]
SIZES = (36, 100, 256, 512, 1024, 2048, 4096)
CASES = ("null", "knn", "ours", "best", "learned", "pyg", "fusion")
PEER_BLOCK = 256


class PygGraph(nn.Module):
    """The same layers as PyG's message passing."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GATConv(DIM, DIM // heads, heads=heads, add_self_loops=False, bias=False) for _ in range(LAYERS)
        )

    def forward(self, regions: Tensor, raw: Tensor) -> Tensor:
        edges = _joined(raw) if raw.shape[1] <= PEER_BLOCK else _joined_by_blocks(raw)
        nodes = regions.flatten(0, 1)
        for layer in self.layers:
            nodes = functional.elu(layer(nodes, edges))
        return nodes


def _joined(raw: Tensor) -> Tensor:
    slots = raw.shape[1]
    unit = functional.normalize(raw, dim=-1)
    loops = torch.eye(slots, dtype=torch.bool, device=raw.device)
    far = (1 - unit @ unit.mT).masked_fill_(loops, torch.inf)
    near = torch.zeros_like(far, dtype=torch.bool).scatter_(2, far.topk(K, largest=False).indices, True)
    image, i, j = (near | near.mT | loops).nonzero(as_tuple=True)
    return torch.stack([image * slots + j, image * slots + i])


def _joined_by_blocks(raw: Tensor) -> Tensor:
    """Without all N x N distances at once; faster, too, beyond a few hundred regions."""
    slots = raw.shape[1]
    own = torch.arange(slots, device=raw.device)
    images = []
    for image, unit in enumerate(functional.normalize(raw, dim=-1)):
        near = []
        for rows in own.split(PEER_BLOCK):
            alike = unit[rows] @ unit.T
            alike[torch.arange(len(rows)), rows] = -torch.inf
            near.append(alike.topk(K, sorted=False).indices)
        j = torch.cat(near).flatten()
        i = own.repeat_interleave(K)
        pairs = torch.cat([i * slots + j, j * slots + i, own * slots + own]).unique()
        images.append(torch.stack([pairs % slots, pairs // slots]) + image * slots)
    return torch.cat(images, dim=1)


def call_of(case: str, shape: Shape) -> Callable[[], object]:
    """What one round of `case` does, on inputs made beforehand."""
    torch.manual_seed(0)
    images, slots, heads = shape
    regions = torch.randn(images, slots, DIM, device=DEVICE, requires_grad=True)
    raw = torch.randn(images, slots, DIM, device=DEVICE).relu()
    boxes = torch.rand(images, slots, 2, 2, device=DEVICE).sort(dim=2).values.flatten(2)
    valid = torch.ones(images, slots, dtype=torch.bool, device=DEVICE)
    if case == "knn":
        return lambda: knn_graph(raw, boxes, valid, k=K)
    if case == "fusion":
        fusion = FusionConfig().build(DIM).to(DEVICE)
        g = torch.randn(images, DIM, device=DEVICE)
        return lambda: fusion(g, regions, valid).sum().backward()
    if case == "pyg":
        peer = PygGraph(heads).to(DEVICE)
        return lambda: peer(regions, raw).sum().backward()
    configs: dict[str, NoGraphConfig | RegionGraphConfig] = {
        "null": NoGraphConfig(),
        "ours": replace(GRAPH_PRESETS["paper"], k=K, layers=LAYERS, heads=heads),
        "best": replace(GRAPH_PRESETS["best"], k=K, layers=LAYERS, heads=heads),
        "learned": replace(GRAPH_PRESETS["best"], k=K, layers=LAYERS, heads=heads, metric="learned"),
    }
    stage = configs[case].build(DIM).to(DEVICE)
    return lambda: stage(regions, raw, boxes, valid).features.sum().backward()


def synchronised(call: Callable[[], object]) -> None:
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def in_turns(calls: Sequence[Callable[[], object]], seconds: float = 5.0) -> list[float]:
    """Median seconds of each call; they take turns for about `seconds`, after three rounds to warm up."""
    for _ in range(3):
        start = CLOCK()
        for call in calls:
            synchronised(call)
        once = CLOCK() - start
    rounds = max(5, min(31, round(seconds / once)))
    repeats = max(1, round(seconds / once / rounds))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, kept in zip(calls, times, strict=True):
            start = CLOCK()
            for _ in range(repeats):
                synchronised(call)
            kept.append((CLOCK() - start) / repeats)
    return [statistics.median(kept) for kept in times]


def added_mib(case: str, shape: Shape) -> float:
    """Memory that the calls of `case` add in this process; meaningful in a fresh one only."""
    call = call_of(case, shape)
    if DEVICE == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        synchronised(call)
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    call_of(case, (1, 2 * K, shape[2]))()  # pages in the code that is called, which is no memory of the call
    Path("/proc/self/clear_refs").write_text("5")  # imports peak higher than what stays: start the peak anew
    before = _peak_rss_mib()
    for _ in range(3):
        call()
    return _peak_rss_mib() - before


def _peak_rss_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**10


def memory_of(case: str, shape: Shape) -> float:
    """`added_mib` in a fresh process."""
    command = [sys.executable, __file__, "memory", case, *map(str, shape)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare() -> None:
    """Ours and PyG's in turns, as a Markdown table; memory at the largest N."""
    print("| B | N | H | PyG, ms | ours, ms | ratio | PyG, MiB | ours, MiB | ratio |\n" + "|---:" * 9 + "|")
    ratios = []
    for shape in COMPARED:
        peer, ours = in_turns([call_of("pyg", shape), call_of("ours", shape)])
        ratios.append(peer / ours)
        memory = "– | – | –"
        if shape[1] == max(n for _, n, _ in COMPARED):
            theirs, own = memory_of("pyg", shape), memory_of("ours", shape)
            memory = f"{theirs:.1f} | {own:.1f} | {own / theirs:.2f}"
        cells = " | ".join(map(str, shape))
        print(f"| {cells} | {1e3 * peer:.2f} | {1e3 * ours:.2f} | {peer / ours:.2f} | {memory} |", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"\ngeometric mean {mean:.2f}, least {min(ratios):.2f}, most {max(ratios):.2f}")


def scaling(target: Path) -> None:
    """Time and memory against N for one image and four heads, printed and drawn."""
    from matplotlib.figure import Figure

    rows = []
    for slots in SIZES:
        shape = (1, slots, 4)
        times = in_turns([call_of("pyg", shape), call_of("ours", shape)])
        rows.append((slots, *times, memory_of("pyg", shape), memory_of("ours", shape)))
        peer, ours, theirs, own = rows[-1][1:]
        print(f"N {slots}: PyG {1e3 * peer:.1f} ms, ours {1e3 * ours:.1f} ms, ratio {peer / ours:.2f}; ", end="")
        print(f"PyG {theirs:.0f} MiB, ours {own:.0f} MiB, ratio {own / theirs:.2f}", flush=True)
    sizes, peer_s, ours_s, peer_mib, ours_mib = zip(*rows, strict=True)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, theirs_y, own_y, label in (
        (panels[0], peer_s, ours_s, "CPU seconds, forward and backward"),
        (panels[1], peer_mib, ours_mib, "MiB added"),
    ):
        axes.plot(sizes, theirs_y, "o-", color="#8a919e", label="KNN by topk + PyG GATConv")
        axes.plot(sizes, own_y, "o-", color="#0b7fab", label="regioncap-graph")
        axes.set(xscale="log", yscale="log", xlabel="regions N", ylabel=label, xticks=sizes, xticklabels=sizes)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(target, dpi=110)


def forms() -> None:
    """Both forms of attention in turns."""

    def forced(limit: int, call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            relations.DENSE_UP_TO = limit
            call()

        return run

    for images, sizes in ((1, (16, 36, 49, 64, 100, 196)), (16, (9, 16, 25, 36, 49)), (64, (6, 9, 16, 25, 36))):
        for slots in sizes:
            call = call_of("ours", (images, slots, 4))
            dense, lists = in_turns([forced(10**12, call), forced(0, call)], seconds=3)
            pairs = images * slots**2
            print(
                f"B {images}, N {slots}, {pairs} pairs: dense {1e3 * dense:.2f} ms, lists {1e3 * lists:.2f} ms, ",
                end="",
            )
            print(f"dense / lists {dense / lists:.2f}", flush=True)


def bf16() -> None:
    """Difference of bfloat16 autocast from float32, features as they leave the stage."""
    for preset in GRAPH_PRESETS:
        for slots in (36, 100):
            torch.manual_seed(0)
            regions, raw = torch.randn(16, slots, DIM), torch.randn(16, slots, DIM).relu()
            boxes = torch.rand(16, slots, 2, 2).sort(dim=2).values.flatten(2)
            stage = replace(GRAPH_PRESETS[preset], heads=4).build(DIM)
            inputs = (regions, raw, boxes, torch.ones(16, slots, dtype=torch.bool))
            with torch.no_grad():
                exact = stage(*inputs)
                with torch.autocast("cpu", torch.bfloat16):
                    rough = stage(*inputs)
            apart = (rough.features.float() - exact.features).square().mean().sqrt()
            shares = (rough.attention - exact.attention).abs().max()
            size = exact.features.square().mean().sqrt()
            print(
                f"{preset}, N {slots}: features {apart / size:.2%} of their size (RMS), attention at most {shares:.4f}"
            )


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("shape", [(16, 16, 4), (16, 49, 4), (16, 36, 1)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_graph_speed(benchmark: BenchmarkFixture, case: str, shape: Shape) -> None:
    torch.set_num_threads(1)
    call = call_of(case, shape)
    benchmark.group = f"graph: B, N, H = {shape}, D = {DIM}"
    benchmark.pedantic(synchronised, args=(call,), rounds=15, warmup_rounds=3)  # type: ignore[no-untyped-call]
    benchmark.extra_info["peak_mib"] = round(memory_of(case, shape), 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["memory", name, images, slots, heads]:
            print(added_mib(name, (int(images), int(slots), int(heads))))
        case ["compare"]:
            compare()
        case ["scaling", file]:
            scaling(Path(file))
        case ["forms"]:
            forms()
        case ["bf16"]:
            bf16()
        case _:
            sys.exit(__doc__)
