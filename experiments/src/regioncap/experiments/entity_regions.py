"""The region encoder of `photos`: a detector that learns on the spot from the boxes of the folder's own train split."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from regioncap.encoders import DetectorTrainingConfig, FasterRcnnEncoder, FasterRcnnEncoderConfig
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entities import EntityBoxesConfig
from regioncap.experiments.data.entity_phrases import FILE
from regioncap.experiments.detection.box_source import BoxSource
from regioncap.experiments.detection.presets import efficientnet
from regioncap.experiments.detection.training import MEASURED, TrainDetectorConfig, train_detector_on

WAY_OUT = (
    "take the cells of a grid as regions (preset photos-grid), or name a trained detector "
    "(--encoders.image.weights DIR, made by regioncap train-detector)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityRegionsConfig:
    """Faster R-CNN on EfficientNet-Lite0, trained on the data's Flickr30k Entities unless it is given."""

    weights: Path | None = None
    """Folder of a detector that `regioncap train-detector` wrote. None: one is trained on the boxes of data.root's
    train split, once, and kept in the cache."""
    boxes: EntityBoxesConfig = field(default_factory=EntityBoxesConfig)
    """Classes and attributes of the detector that is trained."""
    training: DetectorTrainingConfig = field(default_factory=lambda: efficientnet().training)
    """Training of that detector."""
    regions: int = 36
    """Most regions per image (N)."""
    score_threshold: float = 0.05
    """Boxes must score more than this. Scores are low where people call one thing by many names."""
    nms_threshold: float = 0.6
    """Of two boxes that overlap more than this (intersection over union), the better one stays."""
    attributes: int = 2
    """Most attributes of a region."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the trunk's convolutions."""

    def build(self) -> FasterRcnnEncoder:
        """Load the encoder. Raises ValueError if there are no weights, or naming the file that does not fit."""
        if self.weights is None:
            raise ValueError(f"encoders.image.weights is not given and no detector was trained: {WAY_OUT}")
        return FasterRcnnEncoderConfig(
            weights=self.weights,
            regions=self.regions,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            attributes=self.attributes,
            # The mean of ImageNet's last map, as the grid encoder has it.
            pool_cells=1,
            precision=self.precision,
        ).build()

    @property
    def key(self) -> str:
        """Names the weights by their content, and the choice of regions."""
        assert self.weights is not None, "build() comes first"
        digest = hashlib.sha256()
        for file in sorted(self.weights.glob("detector.*")):
            digest.update(file.name.encode() + file.read_bytes())
        return f"{digest.hexdigest()[:16]} {replace(self, weights=None)}"


def trained_regions(config: EntityRegionsConfig, root: Path | None, cache: Path) -> EntityRegionsConfig:
    """The config with a detector trained on the boxes in `root`, unless it names one.

    Trains where that was not done before: some 20 minutes on one core. Raises DataError if `root` has no boxes.
    """
    if config.weights is not None:
        return config
    if root is None:
        raise DataError("data.root is not given: name the folder of the photographs (--data.root DIR)")
    if not (root / FILE).is_file():
        raise DataError(f"{root} has no {FILE}, from whose boxes a detector would be trained: {WAY_OUT}")
    job = TrainDetectorConfig(
        out=cache / "detectors" / _key(config, root),
        data=BoxSource(root=root, entities=config.boxes),
        detector=efficientnet().detector,
        training=config.training,
        cache=cache,
    )
    if not (job.out / MEASURED).is_file():
        print(f"training a detector on the boxes of {root} into {job.out}; this is done once", flush=True)
        train_detector_on(job)
    return replace(config, weights=job.out)


def _key(config: EntityRegionsConfig, root: Path) -> str:
    """A digest of the boxes, the splits and what is done with them."""
    digest = hashlib.sha256(
        json.dumps([str(config.boxes), str(config.training), str(efficientnet().detector)]).encode()
    )
    for name in (FILE, "train.txt", "dev.txt"):
        if (root / name).is_file():
            digest.update((root / name).read_bytes())
    return digest.hexdigest()[:16]
