"""The graph stage and its parts on random boundary values; the package beside PyTorch Geometric.

    python benchmarks/bench_graph.py compare         # KNN + 2 layers, forward and backward: 18 shapes, both in turns
    python benchmarks/bench_graph.py scaling FILE    # the same up to 4,096 regions, time and memory as curves
    python benchmarks/bench_graph.py forms           # matrices against lists: where `relations.DENSE_UP_TO` is from
    python benchmarks/bench_graph.py bf16            # error of bfloat16 autocast
    pytest benchmarks/bench_graph.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

The peer is what a PyG user writes: KNN by topk on float32 cosine (all images at once; row by row for large ones),
one edge_index for the batch, two `GATConv`s, ELU. Ours is the `paper` preset: the same equations, on float64 KNN.
Times are CPU time on one thread, so that a busy machine counts less; wall time where there is a GPU. The two sides
take turns, medians are compared. Memory is what two warm calls add (`benchmarking/memory.py`). `compare` takes about
five minutes on one core.

Under pytest: forward passes at Table 2's sizes, whole and in parts, and curves over regions, neighbours and images.
"""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv

from regioncap.experiments.benchmarking import measure, table2, table2_stages
from regioncap.experiments.benchmarking.beside import run_beside
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE, synchronised
from regioncap.experiments.benchmarking.memory import peak_mib
from regioncap.experiments.benchmarking.scaling import along
from regioncap.experiments.benchmarking.table2_stages import all_valid, inference, joint, raw_regions
from regioncap.graph import GRAPH_PRESETS, NoGraphConfig, knn_graph, relate, relations

DIM, K, LAYERS = 512, 5, 2
Shape = tuple[int, int, int]
"""Images B, regions N, heads H."""
COMPARED: list[Shape] = [(b, n, h) for b in (1, 16, 64) for n in (36, 49, 100) for h in (1, 4)]
SIZES = (36, 100, 256, 512, 1024, 2048, 4096)
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


def call_of(case: str, images: int, slots: int, heads: int) -> Callable[[], object]:
    """Forward and backward of `ours` or `pyg`, on inputs made beforehand."""
    torch.manual_seed(0)
    regions = torch.randn(images, slots, DIM, device=DEVICE, requires_grad=True)
    raw = torch.randn(images, slots, DIM, device=DEVICE).relu()
    boxes = torch.rand(images, slots, 2, 2, device=DEVICE).sort(dim=2).values.flatten(2)
    valid = torch.ones(images, slots, dtype=torch.bool, device=DEVICE)
    if case == "pyg":
        peer = PygGraph(heads).to(DEVICE)
        return lambda: peer(regions, raw).sum().backward()
    stage = replace(GRAPH_PRESETS["paper"], k=K, layers=LAYERS, heads=heads).build(DIM).to(DEVICE)
    return lambda: stage(regions, raw, boxes, valid).features.sum().backward()


def in_turns(calls: Sequence[Callable[[], object]], seconds: float = 5.0) -> list[float]:
    """Median seconds of each call; they take turns for about `seconds`."""
    named = {str(place): call for place, call in enumerate(calls)}
    once = min(_once(calls) for _ in range(3))
    rounds = max(5, min(31, round(seconds / once)))
    repeats = max(1, round(seconds / once / rounds))
    taken = measure.in_turns(named, rounds=(rounds, rounds), repeats=repeats)
    return [taken.p50(name) for name in named]


def _once(calls: Sequence[Callable[[], object]]) -> float:
    start = CLOCK()
    for call in calls:
        synchronised(call)
    return CLOCK() - start


def compare() -> None:
    """Ours and PyG's in turns, as a Markdown table; memory at the largest N."""
    print("| B | N | H | PyG, ms | ours, ms | ratio | PyG, MiB | ours, MiB | ratio |\n" + "|---:" * 9 + "|")
    ratios = []
    for shape in COMPARED:
        peer, ours = in_turns([call_of("pyg", *shape), call_of("ours", *shape)])
        ratios.append(peer / ours)
        memory = "– | – | –"
        if shape[1] == max(n for _, n, _ in COMPARED):
            theirs, own = _memory("pyg", shape), _memory("ours", shape)
            memory = f"{theirs:.1f} | {own:.1f} | {own / theirs:.2f}"
        cells = " | ".join(map(str, shape))
        print(f"| {cells} | {1e3 * peer:.2f} | {1e3 * ours:.2f} | {peer / ours:.2f} | {memory} |", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"\ngeometric mean {mean:.2f}, least {min(ratios):.2f}, most {max(ratios):.2f}")


def _memory(case: str, shape: Shape) -> float:
    added = peak_mib(call_of, case, *shape)
    return math.nan if added is None else added


def scaling(target: Path) -> None:
    """Time and memory against N for one image and four heads, printed and drawn."""
    from matplotlib.figure import Figure

    rows = []
    for slots in SIZES:
        shape = (1, slots, 4)
        times = in_turns([call_of("pyg", *shape), call_of("ours", *shape)])
        rows.append((slots, *times, _memory("pyg", shape), _memory("ours", shape)))
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
            call = call_of("ours", images, slots, 4)
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


def preset(name: str, images: int, regions: int, heads: int) -> Work:
    """The stage as a preset of the package has it."""
    if name == "null":
        return _stage(NoGraphConfig().build(DIM), images, regions, {})
    base = GRAPH_PRESETS["best"] if name == "learned" else GRAPH_PRESETS[name]
    config = replace(base, k=K, layers=LAYERS, heads=heads, metric="learned" if name == "learned" else base.metric)
    return _stage(config.build(DIM).to(DEVICE).eval(), images, regions, {"K": K, "layers": LAYERS, "heads": heads})


def knn(images: int, regions: int, k: int) -> Work:
    """The graph alone (eqs. 3-5)."""
    seen = raw_regions(images, regions)
    call = inference(lambda: knn_graph(seen.features, seen.boxes, seen.valid, k=k))
    return Work(call=call, images=images, sizes={"N": regions, "R": table2.REGION_DIM, "K": k})


def attention(images: int, regions: int, k: int, layers: int, heads: int) -> Work:
    """Attention alone (eqs. 7-9), with geometry and prior as in the preset `paper` of the experiments."""
    seen, vectors = raw_regions(images, regions), joint(images, regions)
    config = replace(GRAPH_PRESETS["best"], k=k, layers=layers, heads=heads)
    stage = config.build(DIM).to(DEVICE).eval()
    graph = knn_graph(seen.features, seen.boxes, seen.valid, k=k)

    def call() -> None:
        related = relate(graph, seen.boxes, heads=heads, geometry=True)
        features = vectors
        for layer in stage.layers:
            features, _ = layer(features, related)

    sizes = {"N": regions, "D": DIM, "K": k, "layers": layers, "heads": heads}
    return Work(call=inference(call), images=images, sizes=sizes, modules=(stage,))


def _stage(stage: nn.Module, images: int, regions: int, sizes: dict[str, int]) -> Work:
    seen, vectors, valid = raw_regions(images, regions), joint(images, regions), all_valid(images, regions)
    call = inference(lambda: stage(vectors, seen.features, seen.boxes, valid))
    own = {"N": regions, "R": table2.REGION_DIM, "D": DIM, **sizes}
    return Work(call=call, images=images, sizes=own, modules=(stage,))


STAGE = "graph"
AT_TABLE_2 = (table2.IMAGES, table2.REGIONS)
REGIONS = (10, 20, 50, 100, 200, 500, 1000)
NEIGHBOURS = (1, 2, 5, 10, 20)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
KNN = Case(stage=STAGE, name="KNN", make=knn, seconds=0.5)
ATTENTION = Case(stage=STAGE, name="attention", make=attention, seconds=0.5)
WHOLE = Case(stage=STAGE, name="KNN and attention", make=table2_stages.graph, seconds=0.5, memory=False)
STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    replace(WHOLE, name="null", make=preset, arguments=("null", *AT_TABLE_2, 1), null=True, memory=True),
    *(
        replace(WHOLE, name=f"preset {name}, {heads} heads", make=preset, arguments=(name, *AT_TABLE_2, heads))
        for name, heads in (("paper", 1), ("paper", 4), ("learned", 4))
    ),
    replace(KNN, arguments=(*AT_TABLE_2, K)),
    *(
        replace(ATTENTION, name=f"attention, {layers} layers, {heads} heads", arguments=(*AT_TABLE_2, K, layers, heads))
        for layers, heads in ((1, 1), (1, 4), (2, 1), (2, 4), (2, 8))
    ),
    *along(KNN, "regions", REGIONS, (10, 100, 1000), lambda n: (1, n, K)),
    *along(ATTENTION, "regions", REGIONS, (10, 100, 1000), lambda n: (1, n, K, LAYERS, 4)),
    *along(replace(KNN, memory=False), "K", NEIGHBOURS, (1, 5, 20), lambda k: (*AT_TABLE_2, k)),
    *along(replace(ATTENTION, memory=False), "K", NEIGHBOURS, (1, 5, 20), lambda k: (*AT_TABLE_2, k, LAYERS, 4)),
    *along(WHOLE, "images of a batch", BATCHES, (1, 8, 64), lambda images: (images,)),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_graph_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)


def beside_pyg(images: int, slots: int, heads: int) -> Work:
    """Ours of `compare`."""
    sizes = {"N": slots, "D": DIM, "K": K, "layers": LAYERS, "heads": heads}
    return Work(call=call_of("ours", images, slots, heads), images=images, sizes=sizes)


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("shape", [(1, 36, 1), (8, 36, 1), (16, 49, 4), (8, 100, 4)], ids=str)
def test_beside_pyg(benchmark: BenchmarkFixture, shape: tuple[int, int, int]) -> None:
    name = "forward and backward, {} images of {} regions, {} heads".format(*shape)
    own = Case(stage=STAGE, name=name, make=beside_pyg, arguments=shape, rounds=(15, 15), memory=False)
    run_beside(benchmark, own, beside_pyg(*shape), {"PyG": call_of("pyg", *shape)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
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
