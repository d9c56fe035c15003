"""The feature store on a folder in Flickr8k's layout: extraction, a training epoch, random access, bytes.

    python benchmarks/bench_store.py extract --root DIR   # two encoders, about 2 minutes on one core
    python benchmarks/bench_store.py epoch --root DIR     # a step from the store and one that encodes, about 2 minutes
    python benchmarks/bench_store.py access --root DIR    # samples/s and bytes per image

`extract` compares `extract` (hash, decode, resize, encode, write, fsync) with the bare encoder on the same images
already decoded in memory, batch for batch, the two taking turns. Ratios are of CPU seconds, which other work on the
machine changes less than wall-clock time: that is throughput where all cores encode, so that nothing can hide. Where a
core is left over for decoding, or a GPU encodes, only wall-clock time counts.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from regioncap.encoders import GridEncoderConfig, ImageEncoder, ImageFeatures, Regions, load_image
from regioncap.encoders.store import ExtractConfig, FeatureStore, extract
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.metrics import CaptionScorer, Scores
from regioncap.experiments.prepare import prepare
from regioncap.experiments.presets import photos_grid
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.images import TrainingImagesConfig
from regioncap.experiments.training.train import train

COCO_IMAGES = 123_287
BATCH = 16


class RandomClip(nn.Module):
    """CLIP ViT-B/32 with random weights: the image vector, and the whole image as the one region."""

    pooled_dim = region_dim = 512
    regions_per_image = 1
    words: tuple[str, ...] = ()
    words_per_region = 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model: nn.Module = CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=32))
        self.model.train(False)

    def load(self, path: Path) -> tuple[Tensor]:
        return (load_image(path, 224),)

    def forward(self, images: Tensor) -> ImageFeatures:
        g = self.model((images - 0.45) / 0.27).image_embeds
        one = torch.ones(len(g), 1)
        regions = Regions(
            features=g[:, None],
            boxes=torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(g), 1, 4),
            scores=one,
            valid=one.bool(),
            words=torch.zeros(len(g), 1, 0, dtype=torch.long),
            word_scores=torch.zeros(len(g), 1, 0),
        )
        return ImageFeatures(pooled=g, regions=regions)


ENCODERS: Mapping[str, tuple[Callable[[], ImageEncoder], int]] = {
    "EfficientNet-Lite0 grid, bfloat16": (lambda: GridEncoderConfig(precision="bfloat16").build(), 512),
    "EfficientNet-Lite0 grid, float32": (lambda: GridEncoderConfig().build(), 256),
    "CLIP ViT-B/32, random weights, float32": (RandomClip, 96),
}


def spent(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def bench_extract(root: Path, rounds: int, most: int, only: str) -> None:
    torch.set_num_threads(1)
    pictures = pictures_of(root)
    for name, (build, count) in ENCODERS.items():
        if only not in name:
            continue
        encoder, count = build(), min(count, most)
        some = dict(list(pictures.items())[:count])
        pixels = [encoder.load(path) for path in some.values()]
        batches = [
            tuple(torch.stack(c) for c in zip(*pixels[i : i + BATCH], strict=True)) for i in range(0, count, BATCH)
        ]

        def bare(encoder: ImageEncoder = encoder, batches: list[Any] = batches) -> None:
            with torch.inference_mode():
                for batch in batches:
                    encoder(*batch)

        def whole(encoder: ImageEncoder = encoder, some: Mapping[str, Path] = some) -> None:
            with tempfile.TemporaryDirectory() as folder:
                extract(some, encoder, Path(folder), "bench", ExtractConfig(batch_size=BATCH, threads=1))

        bare()
        pairs = [(spent(bare), spent(whole)) for _ in range(rounds)]
        cpu = [b[0] / w[0] for b, w in pairs]
        wall = [b[1] / w[1] for b, w in pairs]
        each = statistics.median(b[0] for b, _ in pairs) / count * 1e3
        print(
            f"{name}: {count} images, bare {each:.2f} CPU ms an image; throughput of extraction over bare encoder: "
            f"CPU time {spread(cpu)}, wall clock {spread(wall)}",
            flush=True,
        )


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"


class NoScorer(CaptionScorer):
    def score(self, references: Any, candidates: Any, *arguments: Any, **settings: Any) -> Scores:
        return Scores(corpus={"CIDEr": 0.0}, per_image={}, missing={})


def bench_epoch(root: Path, rounds: int, most: int, cache: Path) -> None:
    torch.set_num_threads(1)
    config = TrainConfig(steps=8, evaluations=1, evaluation_images=2)
    source = Flickr8kConfig(root=root)
    base = replace(photos_grid(), data=source, train=config)
    data = source.read()
    small = replace(data, splits={name: images[:most] for name, images in data.splits.items()})
    prepared = prepare(base, small, base.encoders.build(), cache)
    arms = {
        "from the store": base,
        "encoded at every step": replace(base, images=TrainingImagesConfig(encode="each-step")),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, experiment in arms.items():
            seconds[name].append(train(experiment, prepared, NoScorer()).cpu_s / config.steps)
    per_epoch = len(data.split("train")) // config.images_per_step
    for name, each in seconds.items():
        middle = statistics.median(each)
        print(
            f"{name}: {1e3 * middle:.0f} CPU ms a step of {config.images_per_step}, {middle * per_epoch:.0f} s an epoch"
        )
    stored, encoded = seconds.values()
    print(f"an epoch from the store takes {spread([s / e for s, e in zip(stored, encoded, strict=True)])} of the other")


def bench_access(root: Path, most: int, cache: Path) -> None:
    torch.set_num_threads(1)
    pictures = dict(list(pictures_of(root).items())[:512])
    for name, (build, _) in ENCODERS.items():
        if "float32" in name and "grid" in name:
            continue
        some = dict(list(pictures.items())[: most if "grid" in name else most // 8])
        told(name, extract(some, build(), cache / "features", "access"))


def told(name: str, store: FeatureStore) -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randint(len(store), (BATCH,), generator=draw) for _ in range(100)]
    store.images(batches[0])
    took = spent(lambda: [store.images(rows) for rows in batches])[0]
    each = store.manifest.bytes / len(store)
    print(
        f"{name}: {each:,.0f} bytes an image, {each * COCO_IMAGES / 1e9:.2f} GB for COCO's {COCO_IMAGES:,}; "
        f"{len(batches) * BATCH / took:,.0f} random samples/s on one core, pages in memory"
    )


def pictures_of(root: Path) -> dict[str, Path]:
    return {image.name: image.path for image in Flickr8kConfig(root=root).read().split("train")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("extract", "epoch", "access"))
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256, help="at most so many; extraction's fixed costs count more")
    parser.add_argument("--only", default="", help="extract: encoders with this in their name")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        match options.what:
            case "extract":
                bench_extract(options.root, options.rounds, options.images, options.only)
            case "epoch":
                bench_epoch(options.root, options.rounds, options.images, Path(scratch))
            case "access":
                bench_access(options.root, options.images, Path(scratch))
