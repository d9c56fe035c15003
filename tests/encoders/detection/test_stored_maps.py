from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.encoders.detection.box_heads import MeanMlpHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.examples import PixelExamples
from regioncap.encoders.detection.stored_maps import RECORD, MapExamples, write_maps
from regioncap.encoders.detection.training import DetectorTraining, DetectorTrainingConfig

CONFIG = DetectorConfig(
    classes=("a", "b"),
    image_size=64,
    trunk=EfficientNetFpnConfig(channels=8, trainable_blocks=2),
    head=MeanMlpHeadConfig(hidden=8, dim=8),
    anchor_sizes=(12, 20, 40),
    proposals=20,
    roi_size=3,
)
TRAINING = DetectorTrainingConfig(steps=3, batch_size=2)


def fresh(config: DetectorConfig = CONFIG) -> Detector:
    torch.manual_seed(0)
    return config.build()


def data(n: int = 5) -> tuple[torch.Tensor, list[BoxTargets]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8, generator=generator)
    nothing = torch.zeros(1, 0, dtype=torch.bool)
    target = BoxTargets(boxes=torch.tensor([[0.1, 0.2, 0.5, 0.9]]), labels=torch.tensor([1]), attributes=nothing)
    return images, [target] * n


def written(folder: Path, precision: str = "bfloat16", n: int = 5) -> Path:
    write_maps(fresh(), data(n)[0].split(2), folder, count=n, pictures="noise", precision=precision)
    return folder


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_stored_maps_are_those_computed(tmp_path: Path, precision: str) -> None:
    images, targets = data()
    detector = fresh()
    stored = MapExamples(written(tmp_path, precision), detector, targets, pictures="noise", precision=precision)
    rows, mirrored = torch.tensor([4, 0, 2]), torch.tensor([True, False, True])
    read = stored.maps(detector, rows, mirrored, precision)
    computed = PixelExamples(images, targets).maps(detector, rows, mirrored, precision)
    assert list(read) == list(computed)
    for name in computed:
        assert read[name].dtype == torch.float32
        # A convolution may round otherwise in a batch of another size.
        rtol = 1e-2 if precision == "bfloat16" else 1e-4
        torch.testing.assert_close(read[name], computed[name], rtol=rtol, atol=1e-2)


@pytest.mark.usefixtures("bfloat16")
def test_a_stored_batch_is_what_was_computed_to_the_last_bit(tmp_path: Path) -> None:
    images, targets = data(2)
    detector = fresh()
    stored = MapExamples(written(tmp_path, n=2), detector, targets, pictures="noise", precision="bfloat16")
    rows, mirrored = torch.tensor([0, 1]), torch.tensor([False, False])
    computed = PixelExamples(images, targets).maps(detector, rows, mirrored, "bfloat16")
    for name, read in stored.maps(detector, rows, mirrored, "bfloat16").items():
        assert torch.equal(read, computed[name])


def test_training_on_stored_maps_is_training_on_pixels(tmp_path: Path) -> None:
    images, targets = data(2)
    weights = []
    for stored in (False, True):
        detector = fresh()
        examples = (
            MapExamples(written(tmp_path, "float32", 2), detector, targets, pictures="noise", precision="float32")
            if stored
            else PixelExamples(images, targets)
        )
        config = replace(TRAINING, precision="float32", steps=2)
        DetectorTraining(detector, examples, config).run(lambda *_: None)
        weights.append(detector.state_dict())
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4)


def test_maps_of_something_else_are_refused(tmp_path: Path) -> None:
    folder, (_, targets) = written(tmp_path), data()
    other_weights = fresh()
    with torch.no_grad():
        other_weights.trunk.body.stem.weight.mul_(2)
    cases = (
        (other_weights, targets, "noise", "bfloat16"),
        (fresh(replace(CONFIG, trunk=EfficientNetFpnConfig(channels=8))), targets, "noise", "bfloat16"),
        (fresh(), targets[:4], "noise", "bfloat16"),
        (fresh(), targets, "others", "bfloat16"),
        (fresh(), targets, "noise", "float32"),
    )
    for detector, own, pictures, precision in cases:
        with pytest.raises(ValueError, match="holds other maps"):
            MapExamples(folder, detector, own, pictures=pictures, precision=precision)
    stored = MapExamples(folder, fresh(), targets, pictures="noise", precision="bfloat16")
    with pytest.raises(ValueError, match="stored maps are bfloat16, training wants float32"):
        stored.maps(fresh(), torch.tensor([0]), torch.tensor([False]), "float32")


def test_what_learns_does_not_change_the_key(tmp_path: Path) -> None:
    images, targets = data()
    detector = fresh()
    DetectorTraining(detector, PixelExamples(images, targets), TRAINING).run(lambda *_: None)
    MapExamples(written(tmp_path), detector, targets, pictures="noise", precision="bfloat16")


def test_an_interrupted_folder_is_refused_and_written_anew(tmp_path: Path) -> None:
    images, targets = data()
    for announced, reason in ((6, "hold 5 pictures, 6 were announced"), (4, "more than the 4 pictures")):
        written(tmp_path)
        with pytest.raises(ValueError, match=reason):
            write_maps(fresh(), images.split(2), tmp_path, count=announced, pictures="noise")
        assert not (tmp_path / RECORD).exists()
        with pytest.raises(ValueError, match=r"maps\.json is missing"):
            MapExamples(tmp_path, fresh(), targets, pictures="noise", precision="bfloat16")
    MapExamples(written(tmp_path), fresh(), targets, pictures="noise", precision="bfloat16")
