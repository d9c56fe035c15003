"""How much sharper a detector is on the pictures that it learned from.

    python benchmarks/bench_detector_gap.py DETECTOR --data.root DIR --pictures 500

One thread, half a minute.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro

from regioncap.encoders import Detector, FasterRcnnEncoderConfig, load_detector, load_image
from regioncap.encoders.detection.trunk import Maps
from regioncap.experiments.data.boxes import BoxData
from regioncap.experiments.detection.box_source import BoxSource
from regioncap.experiments.detection.measure import measure_detector

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    detector: tyro.conf.Positional[Path]
    """Folder written by `regioncap train-detector`."""
    data: BoxSource = field(default_factory=BoxSource)
    """The boxes that it was trained on."""
    pictures: int = 500
    """Pictures of each split, the first ones."""


def maps_of(detector: Detector, data: BoxData) -> Iterator[Maps]:
    """The frozen maps of all pictures, in batches."""
    for start in range(0, len(data), BATCH):
        own = data.images[start : start + BATCH]
        with torch.inference_mode():
            pictures = torch.stack([load_image(image.path, detector.config.image_size) for image in own])
            yield detector.trunk_features(pictures, "bfloat16")


def main() -> None:
    """Print a line for each split."""
    torch.set_num_threads(1)
    options = tyro.cli(Options)
    train, dev = options.data.read()
    detector = load_detector(options.detector)
    encoder = FasterRcnnEncoderConfig(
        weights=options.detector, regions=36, score_threshold=0.05, nms_threshold=0.6
    ).build()
    for split, data in (("train", train), ("dev", dev)):
        part = replace(data, images=data.images[: options.pictures])
        scores = measure_detector(detector, maps_of(detector, part), part, train)
        pixels = torch.stack([encoder.load(image.path)[0] for image in part.images[:160]])
        sure = [(encoder(batch).regions.scores > 0.3).sum() for batch in pixels.split(BATCH)]
        figures = {name: getattr(scores, name) for name in ("ap50", "recall", "named")}
        figures |= {group: own.accuracy for group, own in scores.attributes.items()}
        shown = "  ".join(f"{name} {100 * value:.1f}" for name, value in figures.items())
        print(f"{split:5}  {shown}  regions over 0.3 {float(sum(sure)) / len(pixels):.1f}", flush=True)


if __name__ == "__main__":
    main()
