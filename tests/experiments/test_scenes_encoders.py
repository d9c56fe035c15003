import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchvision.ops import box_iou

from regioncap.encoders import DetectorTrainingConfig, SmallBertConfig
from regioncap.experiments.data.coco import read_boxes
from regioncap.experiments.data.scenes import ScenesConfig, make_scenes
from regioncap.experiments.detection import box_targets, load_pixels
from regioncap.experiments.scenes_alignment import AlignmentConfig, measure_alignment
from regioncap.experiments.scenes_encoders import (
    SHIPPED,
    ScenesEncodersConfig,
    load_scenes_encoders,
    train_scenes_encoders,
)

TINY = ScenesEncodersConfig(
    out=Path("unused"),
    scenes=ScenesConfig(train=8, val=2, test=1, seed=5),
    detector_training=DetectorTrainingConfig(steps=2, batch_size=4),
    bert=SmallBertConfig(layers=1, width=16),
    dim=12,
    alignment=AlignmentConfig(steps=2, batch_size=4),
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Scenes that nothing was trained on."""
    return make_scenes(ScenesConfig(train=1, val=24, test=1, seed=77), tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(SHIPPED, tmp_path / "weights")


def test_shipped_detector_finds_and_names_objects_of_fresh_scenes(fresh) -> None:
    data = read_boxes(fresh.root, "val")
    encoder = load_scenes_encoders().image_encoder
    assert encoder.classes == data.classes
    found = encoder.detect(load_pixels(data, encoder.image_size).float() / 255)
    located = named = total = 0
    for i, target in enumerate(box_targets(data)):
        overlap, best = box_iou(target.boxes, found.boxes[i][found.valid[i]]).max(dim=1)
        located += int((overlap > 0.5).sum())
        named += int(((overlap > 0.5) & (found.labels[i][found.valid[i]][best] == target.labels)).sum())
        total += len(target.boxes)
    assert located / total > 0.9
    assert named / total > 0.85


def test_shipped_head_finds_the_captions_of_fresh_scenes(fresh) -> None:
    encoders = load_scenes_encoders()
    images = encoders.image_encoder.pool(
        load_pixels(read_boxes(fresh.root, "val"), encoders.image_encoder.image_size).float() / 255
    )
    captions = [image.captions for image in fresh.split("val")]
    recall = measure_alignment(encoders.text_encoder, encoders.clip_head, images, captions)
    assert recall.image_to_text[1] > 0.4  # by chance 0.04
    assert recall.text_to_image[5] > 0.6  # by chance 0.21


def test_shipped_files_are_small_and_in_half_precision() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < 8e6
    files = sorted(SHIPPED.rglob("*.safetensors"))
    assert len(files) == 3
    for file in files:
        assert {x.dtype for x in load_file(file).values()} <= {torch.float16, torch.int64}


def test_loaded_modules_are_float32_and_frozen_but_for_the_head() -> None:
    encoders = load_scenes_encoders()
    for module in (encoders.image_encoder, encoders.text_encoder, encoders.clip_head):
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        assert not module.training
    assert not any(p.requires_grad for p in encoders.image_encoder.parameters())
    assert not any(p.requires_grad for p in encoders.text_encoder.parameters())


def test_what_is_shipped_is_what_the_command_makes() -> None:
    """A changed default without new weights would make the record untrue."""
    stored = json.loads((SHIPPED / "measured.json").read_text())["config"]
    default = asdict(ScenesEncodersConfig(out=Path("unused")))
    del default["out"]
    assert stored == json.loads(json.dumps(default))


def test_command_writes_what_the_loader_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    measured = train_scenes_encoders(replace(TINY, out=tmp_path / "a"))
    train_scenes_encoders(replace(TINY, out=tmp_path / "b"))
    first, second = load_scenes_encoders(tmp_path / "a"), load_scenes_encoders(tmp_path / "b")
    assert first.key == second.key != load_scenes_encoders().key
    assert first.clip_head.dim == 12
    assert first.text_encoder.dim == 16
    assert {"ap50", "image_to_text_r1", "detector_cpu_s"} <= measured.keys()
    assert "AP50" in capsys.readouterr().out
    assert not any("unused" in file.read_text() for file in tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "name", ["detector.json", "detector.safetensors", "clip_head.json", "clip_head.safetensors", "text"]
)
def test_missing_file_is_named_with_the_command(copy: Path, name: str) -> None:
    target = copy / name
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(ValueError, match=rf"{name}.*regioncap train-scenes-encoders"):
        load_scenes_encoders(copy)


@pytest.mark.parametrize(
    "name", ["detector.json", "detector.safetensors", "clip_head.json", "clip_head.safetensors", "text/config.json"]
)
def test_damaged_file_is_named_with_the_command(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"{")
    with pytest.raises(ValueError, match=rf"{name.split('/')[0]}.*regioncap train-scenes-encoders"):
        load_scenes_encoders(copy)


def test_key_follows_the_weights(copy: Path) -> None:
    before = load_scenes_encoders(copy).key
    stored = json.loads((copy / "clip_head.json").read_text())
    stored["head"]["temperature"] = 0.5
    (copy / "clip_head.json").write_text(json.dumps(stored))
    assert before == load_scenes_encoders().key
    assert load_scenes_encoders(copy).key != before


def test_bad_config_names_the_field() -> None:
    with pytest.raises(ValueError, match="dim must be"):
        replace(TINY, dim=0)
    with pytest.raises(ValueError, match=r"detector\.classes"):
        replace(TINY, detector=replace(TINY.detector, classes=("cat",)))
