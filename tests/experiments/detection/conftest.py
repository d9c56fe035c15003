"""A dozen pictures with squares: dark and light ones, red and blue ones, in COCO's format."""

import json
from pathlib import Path

import pytest
from PIL import Image

from regioncap.encoders import DetectorConfig, DetectorTrainingConfig, MeanMlpHeadConfig, SmallTrunkConfig
from regioncap.experiments.data.boxes import BoxData, BoxedImage, write_box_file
from regioncap.experiments.detection.box_source import BoxSource
from regioncap.experiments.detection.training import FROM_DATA, TrainDetectorConfig


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.json, dev.json and images/."""
    root = tmp_path_factory.mktemp("squares")
    (root / "images").mkdir()
    for split, count in (("train", 8), ("dev", 4)):
        images = []
        for i in range(count):
            name = f"{split}{i}.png"
            picture = Image.new("RGB", (64, 64), (128, 128, 128))
            boxes = ((4 + i, 6, 22 + i, 24), (36, 30 + i, 56, 50 + i))
            for box, colour in zip(boxes, ((20, 10 * i, 200), (240, 30, 20 * i)), strict=True):
                picture.paste(colour, box)
            picture.save(root / "images" / name)
            images.append(
                BoxedImage(
                    name=name,
                    path=root / "images" / name,
                    width=64,
                    height=64,
                    boxes=tuple(tuple(map(float, box)) for box in boxes),
                    labels=(0, 1),
                    attributes=((1,), (0, 2) if i else ()),
                )
            )
        data = BoxData(
            classes=("dark", "light"),
            types=("things", "things"),
            images=tuple(images),
            attributes=("red", "blue", "big"),
            attribute_groups=("colour", "colour", "size"),
        )
        write_box_file(data, root / f"{split}.json")
    assert json.loads((root / "train.json").read_text())["annotations"]
    return root


@pytest.fixture
def job(squares: Path, tmp_path: Path) -> TrainDetectorConfig:
    """A training of seconds."""
    return TrainDetectorConfig(
        out=tmp_path / "out",
        data=BoxSource(boxes=squares / "train.json", dev=squares / "dev.json", images=squares / "images"),
        detector=DetectorConfig(
            classes=FROM_DATA,
            image_size=64,
            trunk=SmallTrunkConfig(channels=16, blocks=1),
            head=MeanMlpHeadConfig(hidden=16, dim=16),
            anchor_sizes=(16, 24),
            aspect_ratios=(1.0,),
            proposals_before_nms=30,
            proposals=20,
            sampled_rois=16,
            roi_size=3,
        ),
        training=DetectorTrainingConfig(steps=6, batch_size=4, learning_rate=1e-2),
        checkpoint_every=2,
        evaluations=1,
        cache=tmp_path / "cache",
    )
