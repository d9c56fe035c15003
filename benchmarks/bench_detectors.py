"""The detectors beside each other, random weights, pictures of 224 px, N = 36 regions.

    python benchmarks/bench_detectors.py compare    # ms a picture: C4, FPN and Lite0-FPN in turns, three arithmetics
    python benchmarks/bench_detectors.py memory     # peak memory at batch 1 and 8
    python benchmarks/bench_detectors.py error      # of bfloat16 against float32, features of the same boxes
    pytest benchmarks/bench_detectors.py --benchmark-only -o addopts=--import-mode=importlib -o python_files='bench*.py'

A case is the whole of `FasterRcnnEncoder`: trunk, proposals, box head, selection, and the proposals' features as region
features (`features_of="proposal"`). Suppression is off, so that random weights give every case the same number of boxes
through the box head: `rois`. "plain" is float32 with batch normalisation unfolded and torchvision's memory layout;
"float32" and "bfloat16" are the encoder's own, in trunk and heads. Times are CPU time on one thread, the detectors take
turns, medians are compared. Memory is what two calls add to a fresh process that holds the weights (peak RSS, Linux).
`compare` takes about two minutes on one core.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.encoders import (
    Detector,
    DetectorConfig,
    FasterRcnnEncoder,
    FasterRcnnEncoderConfig,
    efficientnet_fpn,
    resnet50_c4,
    resnet50_fpn,
)

REGIONS = 36
CLASSES = tuple(f"class {i}" for i in range(90))
DETECTORS: dict[str, DetectorConfig] = {
    "c4": resnet50_c4(CLASSES),
    "fpn": resnet50_fpn(CLASSES),
    "lite0": efficientnet_fpn(CLASSES),
}
DEFAULTS = {"c4": 100, "fpn": 1000, "lite0": 100}
"""Proposals that each one's config lets through."""
Arithmetic = Literal["plain", "float32", "bfloat16"]
ARITHMETICS: tuple[Arithmetic, ...] = ("plain", "float32", "bfloat16")


def call_of(name: str, arithmetic: Arithmetic, rois: int, batch: int) -> Callable[[], object]:
    """What encodes one batch."""
    torch.manual_seed(0)
    images = torch.rand(batch, 3, 224, 224)
    if arithmetic == "plain":
        detector = Detector(replace(DETECTORS[name], proposals=rois)).eval()
        detector.model.rpn.nms_thresh = 1.0

        def plain() -> object:
            levels = detector.pyramid(detector.trunk_features(images)).levels
            return detector.detect(levels, slots=REGIONS, score_threshold=0.0, nms_threshold=1.0)

        return torch.no_grad()(plain)
    encoder = encoder_of(name, arithmetic, rois)
    return lambda: encoder(images)


def encoder_of(name: str, arithmetic: Literal["float32", "bfloat16"], rois: int) -> FasterRcnnEncoder:
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Detector(replace(DETECTORS[name], proposals=rois)).save(Path(folder))
        encoder = FasterRcnnEncoderConfig(
            weights=Path(folder),
            regions=REGIONS,
            score_threshold=0.0,
            nms_threshold=1.0,
            features_of="proposal",
            pool_cells=1,
            precision=arithmetic,
            head_precision=arithmetic,
        ).build()
    encoder.detector.model.rpn.nms_thresh = 1.0
    return encoder


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each call, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(own) for name, own in times.items()}


def compare() -> None:
    """A Markdown table, ms a picture."""
    print("| batch | rois | arithmetic | C4 | FPN | C4 / FPN | Lite0-FPN |\n" + "|---:" * 7 + "|")
    settings: list[tuple[int, dict[str, int]]] = [
        (1, dict.fromkeys(DETECTORS, REGIONS)),
        (8, dict.fromkeys(DETECTORS, REGIONS)),
        (1, dict.fromkeys(DETECTORS, 100)),
        (1, DEFAULTS),
    ]
    for batch, rois in settings:
        for arithmetic in ARITHMETICS:
            calls = {name: call_of(name, arithmetic, rois[name], batch) for name in DETECTORS}
            ms = {name: 1e3 * s / batch for name, s in in_turns(calls, rounds=5 if batch == 1 else 2).items()}
            counts = "/".join(dict.fromkeys(str(rois[name]) for name in ("c4", "fpn")))
            cells = f"{ms['c4']:.0f} | {ms['fpn']:.0f} | {ms['c4'] / ms['fpn']:.2f} | {ms['lite0']:.0f}"
            print(f"| {batch} | {counts} | {arithmetic} | {cells} |", flush=True)


def memory() -> None:
    """A Markdown table, MiB; every case in a fresh process."""
    print("| detector | weights, MiB | batch 1 | batch 8 |\n|---|---:|---:|---:|")
    for name in DETECTORS:
        weights = sum(p.numel() for p in Detector(DETECTORS[name]).parameters()) * 4 / 2**20
        print(f"| {name} | {weights:.0f} | {memory_of(name, 1):.0f} | {memory_of(name, 8):.0f} |", flush=True)


def memory_of(name: str, batch: int) -> float:
    command = [sys.executable, __file__, "added", name, str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def added_mib(name: str, batch: int) -> float:
    """Memory that encoding adds in this process; meaningful in a fresh one only."""
    call = call_of(name, "float32", REGIONS, batch)
    Path("/proc/self/clear_refs").write_text("5")  # what was read to build it peaks higher: start the peak anew
    before = _peak_rss_mib()
    call()
    call()
    return _peak_rss_mib() - before


def _peak_rss_mib() -> float:
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 2**10


def error() -> None:
    """RMS of the difference over RMS of the value, for image vectors and for the features of 36 given boxes."""
    torch.manual_seed(1)
    images = torch.nn.functional.interpolate(torch.rand(4, 3, 28, 28), size=224)
    boxes = torch.rand(4, REGIONS, 2, 2).sort(dim=2).values.flatten(2)
    valid = torch.ones(4, REGIONS, dtype=torch.bool)
    for name in DETECTORS:
        pooled, features = [], []
        for arithmetic in ("float32", "bfloat16"):
            detector = encoder_of(name, arithmetic, REGIONS).detector
            with torch.no_grad():
                pyramid = detector.pyramid(detector.trunk_features(images, arithmetic), arithmetic)
                pooled.append(pyramid.pooled_map.mean((2, 3)))
                features.append(detector.region_features(pyramid.levels, boxes, valid, arithmetic))
        apart = [(a - b).square().mean().sqrt() / a.square().mean().sqrt() for a, b in (pooled, features)]
        print(f"{name}: image vector {apart[0]:.2%}, region features {apart[1]:.2%}")


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", DETECTORS)
def test_detector_speed(benchmark: BenchmarkFixture, name: str, arithmetic: Arithmetic) -> None:
    torch.set_num_threads(1)
    call = call_of(name, arithmetic, REGIONS, 1)
    benchmark.group = f"detectors: 224 px, batch 1, {REGIONS} regions and proposals"
    benchmark.pedantic(call, rounds=7, warmup_rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["peak_mib"] = round(memory_of(name, 1), 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["compare"]:
            compare()
        case ["memory"]:
            memory()
        case ["error"]:
            error()
        case ["added", name, batch]:
            print(added_mib(name, int(batch)))
        case _:
            sys.exit(__doc__)
