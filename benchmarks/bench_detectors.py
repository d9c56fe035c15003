"""The detectors beside each other, random weights, pictures of 224 px, N = 36 regions.

    python benchmarks/bench_detectors.py compare    # ms a picture: C4, FPN and Lite0-FPN in turns, three arithmetics
    python benchmarks/bench_detectors.py memory     # peak memory at batch 1 and 8
    python benchmarks/bench_detectors.py error      # of bfloat16 against float32, features of the same boxes

A case is the whole of `FasterRcnnEncoder`: trunk, proposals, box head, selection, and the proposals' features as region
features (`features_of="proposal"`). Suppression is off, so that random weights give every case the same number of boxes
through the box head: `rois`. "plain" is float32 with batch normalisation unfolded and torchvision's memory layout;
"float32" and "bfloat16" are the encoder's own, in trunk and heads. Times are CPU time on one thread, the detectors take
turns, medians are compared. Memory is what two warm calls add to a fresh process that holds the weights (peak RSS,
Linux). `compare` takes about two minutes on one core. Records are made by `bench_region_encoders.py`.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from regioncap.encoders import (
    Detector,
    DetectorConfig,
    FasterRcnnEncoder,
    FasterRcnnEncoderConfig,
    efficientnet_fpn,
    resnet50_c4,
    resnet50_fpn,
)
from regioncap.experiments.benchmarking.measure import in_turns
from regioncap.experiments.benchmarking.memory import peak_mib

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
            rounds = 5 if batch == 1 else 2
            taken = in_turns(calls, rounds=(rounds, rounds))
            ms = {name: 1e3 * taken.p50(name) / batch for name in calls}
            counts = "/".join(dict.fromkeys(str(rois[name]) for name in ("c4", "fpn")))
            cells = f"{ms['c4']:.0f} | {ms['fpn']:.0f} | {ms['c4'] / ms['fpn']:.2f} | {ms['lite0']:.0f}"
            print(f"| {batch} | {counts} | {arithmetic} | {cells} |", flush=True)


def memory() -> None:
    """A Markdown table, MiB; every case in a fresh process."""
    print("| detector | weights, MiB | batch 1 | batch 8 |\n|---|---:|---:|---:|")
    for name in DETECTORS:
        weights = sum(p.numel() for p in Detector(DETECTORS[name]).parameters()) * 4 / 2**20
        added = [peak_mib(call_of, name, "float32", REGIONS, batch) for batch in (1, 8)]
        print(f"| {name} | {weights:.0f} | {added[0]:.0f} | {added[1]:.0f} |", flush=True)


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["compare"]:
            compare()
        case ["memory"]:
            memory()
        case ["error"]:
            error()
        case _:
            sys.exit(__doc__)
