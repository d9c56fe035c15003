"""Train a detector on boxes, measure it on others, and leave a folder that `FasterRcnnEncoder` loads.

Killed at any moment, the same command goes on from the last state and ends with the same weights.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from regioncap.encoders import (
    AttributeHeadConfig,
    Detector,
    DetectorConfig,
    DetectorTraining,
    DetectorTrainingConfig,
    FasterRcnnEncoderConfig,
    NoAttributesConfig,
    PixelExamples,
    load_image,
)
from regioncap.encoders.detection.examples import Examples
from regioncap.encoders.detection.stored_maps import RECORD, MapExamples, bytes_per_number, maps_key, write_maps
from regioncap.encoders.detection.trunk import Maps
from regioncap.experiments.cache import cache_folder
from regioncap.experiments.config_io import to_dict
from regioncap.experiments.data.boxes import BoxData, write_box_file
from regioncap.experiments.detection.box_source import BoxSource
from regioncap.experiments.detection.measure import DetectorScores, measure_detector
from regioncap.experiments.detection.targets import box_targets, load_pixels
from regioncap.experiments.progress import StudyProgress, track

MEASURED = "measured.json"
STATE = "training.pt"
_CURVE = "curve.jsonl"
_SECONDS = "seconds.json"
_BATCH = 8
FROM_DATA = ("?",)
"""Stands for the classes in a `DetectorConfig` until the boxes have been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainDetectorConfig:
    """What to train, on what, and where to."""

    out: Path
    """Folder of the detector; the same command goes on with what an interrupted run left there."""
    data: BoxSource = field(default_factory=BoxSource)
    detector: DetectorConfig
    """Architecture. Its classes and attributes are those of the data."""
    attributes: Literal["data", "none"] = "data"
    """Whether a head learns the attributes that the boxes name, if they name any."""
    training: DetectorTrainingConfig
    stored_kb: int = 600
    """The frozen part of the trunk runs once per picture and is kept in the cache where its maps take no more than so
    many kB a picture (and as many for its mirror image); otherwise it runs in every step. 0: in every step."""
    checkpoint_every: int = 200
    """Steps between two states that a killed run goes on from."""
    evaluations: int = 4
    """How often it is measured on `evaluation_images` dev pictures on the way; at the end it is measured on all."""
    evaluation_images: int = 200
    cache: Path = field(default_factory=cache_folder)
    """Where the maps of the frozen trunk are kept."""

    def __post_init__(self) -> None:
        for name in ("checkpoint_every", "evaluations", "evaluation_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.stored_kb < 0:
            raise ValueError(f"stored_kb must not be negative, got {self.stored_kb}")
        if self.detector.classes != FROM_DATA:
            raise ValueError(f"detector.classes come from the boxes, got {self.detector.classes}: leave them out")


def train_detector_on(config: TrainDetectorConfig) -> DetectorScores | None:
    """Train, measure on dev and write `config.out`; None if that is finished already.

    Raises DataError for boxes that cannot be used, ValueError for a folder that holds something else.
    """
    made_by = _made_by(config)
    if (config.out / MEASURED).is_file():
        if json.loads((config.out / MEASURED).read_text()).get("config") != made_by:
            raise ValueError(f"{config.out} holds a detector of another config: choose another --out, or remove it")
        print(f"{config.out} is finished; to train it anew, remove it")
        return None
    train, dev = config.data.read()
    for split, data in (("train", train), ("dev", dev)):
        for reason, count in data.skipped.items():
            print(f"{split}: left out {count} x {reason}")
        print(
            f"{split}: {len(data)} pictures, {data.count} boxes, {len(data.classes)} classes, "
            f"{len(data.attributes)} attributes"
        )
    config.out.mkdir(parents=True, exist_ok=True)
    if config.data.root is not None:
        write_box_file(train, config.out / "train.json")
        write_box_file(dev, config.out / "dev.json")
    scores, record = fit(build_detector(config, train), train, dev, config)
    _write_json(config.out / MEASURED, record | {"config": made_by})
    for name in (STATE, _SECONDS):
        (config.out / name).unlink(missing_ok=True)
    return scores


def build_detector(config: TrainDetectorConfig, train: BoxData) -> Detector:
    """The untrained detector for the classes and attributes of `train`; its random weights follow training.seed."""
    attributes = (
        AttributeHeadConfig(words=train.attributes, groups=train.attribute_groups)
        if train.attributes and config.attributes == "data"
        else NoAttributesConfig()
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return replace(config.detector, classes=train.classes, attributes=attributes).build()


def fit(
    detector: Detector, train: BoxData, dev: BoxData, config: TrainDetectorConfig
) -> tuple[DetectorScores, dict[str, Any]]:
    """Train from the state in `config.out`, if there is one; write the detector there and return how good it is.

    The record has the figures, the seconds of CPU, and the curve on the way there.
    """
    out, steps = config.out, config.training.steps
    clock = _Clock(out / _SECONDS)
    seen = train_examples(detector, train, config)
    unseen = _batches(detector, dev, config)
    training = DetectorTraining(detector, seen, config.training)
    if training.resume(out / STATE):
        print(f"{out / STATE}: going on from step {training.step} of {steps}")
    part = replace(dev, images=dev.images[: config.evaluation_images])
    at = {round(steps * i / (config.evaluations + 1)) for i in range(1, config.evaluations + 1)}
    with StudyProgress(1) as progress:
        progress.start("detector", steps)

        def report(step: int, losses: Mapping[str, float]) -> None:
            done = step + 1
            values = {"loss": sum(losses.values())}
            if done in at:
                detector.eval()
                scores = measure_detector(detector, unseen(part), part, train)
                detector.train()
                values["ap50"] = scores.ap50
                with (out / _CURVE).open("a") as curve:
                    curve.write(
                        json.dumps({"step": done, "ap50": scores.ap50, "recall": scores.recall, **losses}) + "\n"
                    )
            if done % config.checkpoint_every == 0:
                clock.save()
            progress.update("detector", done, **values)

        training.run(report, checkpoint=out / STATE, checkpoint_every=config.checkpoint_every)
        train_s = clock.seconds
        scores = measure_detector(detector, unseen(dev), dev, train)
        progress.finish("detector", f"AP50 {100 * scores.ap50:.1f} on dev")
    detector.save(out)
    record = {
        "measured_on_dev": scores.as_json(),
        "pictures": {"train": len(train), "dev": len(dev)},
        "boxes": {"train": train.count, "dev": dev.count},
        "cpu_s": {"with_maps": round(train_s, 1), "with_evaluation": round(clock.seconds, 1)},
        "ms_per_image": round(_ms_per_image(out, dev), 1),
    }
    return scores, record


def train_examples(detector: Detector, data: BoxData, config: TrainDetectorConfig) -> Examples:
    """The pictures as pixels, or as what the frozen part of the trunk makes of them, from the cache."""
    stored = _stored(detector, data, config)
    if stored is not None:
        return stored
    return PixelExamples(load_pixels(data, detector.config.image_size), box_targets(data))


class _Clock:
    """Seconds of CPU of all the runs that led here, as far as they saved their states."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = float(json.loads(file.read_text())["cpu_s"]) if file.is_file() else 0.0
        self._started = time.process_time()

    @property
    def seconds(self) -> float:
        return self._before + time.process_time() - self._started

    def save(self) -> None:
        _write_json(self._file, {"cpu_s": self.seconds})


def _batches(detector: Detector, data: BoxData, config: TrainDetectorConfig) -> Callable[[BoxData], Iterator[Maps]]:
    """A function from a part of the data (its first pictures) to their frozen maps in batches."""
    examples = train_examples(detector, data, config)

    def run(part: BoxData) -> Iterator[Maps]:
        for start in range(0, len(part), _BATCH):
            rows = torch.arange(start, min(start + _BATCH, len(part)))
            with torch.inference_mode():
                yield examples.maps(detector, rows, torch.zeros(len(rows), dtype=torch.bool), config.training.precision)

    return run


def _stored(detector: Detector, data: BoxData, config: TrainDetectorConfig) -> MapExamples | None:
    """The frozen maps out of the cache, written if they are not there; None where they are too large to be kept."""
    size, precision = detector.config.image_size, config.training.precision
    with torch.inference_mode():
        maps = detector.trunk_features(torch.zeros(1, 3, size, size), precision)
    per_picture = sum(x.numel() for x in maps.values()) * bytes_per_number(precision)
    if "pixels" in maps or per_picture > 1000 * config.stored_kb:
        return None
    pictures = _fingerprint(data)
    folder = config.cache / "trunk_maps" / maps_key(detector, pictures, precision)
    targets = box_targets(data)
    if not (folder / RECORD).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        need, free = 2 * per_picture * len(data), shutil.disk_usage(folder.parent).free
        if need > 0.95 * free:
            raise ValueError(
                f"{folder.parent} has {free / 1e9:.1f} GB left, the maps of {len(data)} pictures take "
                f"{need / 1e9:.1f}: make room, set REGIONCAP_CACHE, or run the trunk in every step (--stored-kb 0)"
            )
        # Written beside its place, so that two runs at once do not write into each other's files.
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        write_maps(detector, _pixels(data, size), partial, count=len(data), pictures=pictures, precision=precision)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return MapExamples(folder, detector, targets, pictures=pictures, precision=precision)


def _pixels(data: BoxData, size: int) -> Iterator[UInt8[Tensor, "_b 3 S S"]]:
    starts = range(0, len(data), _BATCH)
    for start in track(starts, description="frozen trunk", total=len(starts)):
        own = data.images[start : start + _BATCH]
        yield torch.stack([(load_image(image.path, size) * 255.0).round().byte() for image in own])


def _fingerprint(data: BoxData) -> str:
    """Names, sizes and times of change of the pictures."""
    digest = hashlib.sha256()
    for image in data.images:
        status = image.path.stat()
        digest.update(f"{image.path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _ms_per_image(folder: Path, data: BoxData, batches: int = 4) -> float:
    """Milliseconds of CPU that the finished encoder takes for a picture, decoding left out, in batches of 8."""
    encoder = FasterRcnnEncoderConfig(weights=folder, regions=36, score_threshold=0.05).build()
    own = data.images[: _BATCH * batches]
    pictures = torch.stack([encoder.load(image.path)[0] for image in own]).split(_BATCH)
    encoder(pictures[0])
    started = time.process_time()
    for batch in pictures:
        encoder(batch)
    return 1e3 * (time.process_time() - started) / len(own)


def _made_by(config: TrainDetectorConfig) -> Any:
    """The config as JSON has it, but for what does not decide the result."""
    made_by = to_dict(config)
    for name in ("out", "cache", "stored_kb", "checkpoint_every"):
        del made_by[name]
    return json.loads(json.dumps(made_by))


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(file)
