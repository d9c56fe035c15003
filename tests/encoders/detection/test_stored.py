import json

import pytest
import torch

from regioncap.encoders.detection.stored import load_detector


def test_saved_detector_comes_back_as_float32(tmp_path, small_detector) -> None:
    small_detector.save(tmp_path / "new" / "folder")
    loaded = load_detector(tmp_path / "new" / "folder")
    assert loaded.config == small_detector.config
    assert not loaded.training
    for name, value in small_detector.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded.state_dict()[name], expected)
        assert loaded.state_dict()[name].dtype == expected.dtype


@pytest.mark.parametrize("name", ["detector.json", "detector.safetensors"])
def test_missing_file_is_named(tmp_path, small_detector, name: str) -> None:
    small_detector.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        load_detector(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[1]",
        '{"type": "DetectorConfig", "classes": ["a"], "colour": 3}',
        '{"type": "DetectorConfig", "classes": []}',
        '{"type": "Detector"}',
        '{"type": "SmallTrunkConfig", "channels": 8}',
        '{"classes": ["a"]}',
    ],
)
def test_broken_config_is_named(tmp_path, small_detector, content: str) -> None:
    small_detector.save(tmp_path)
    (tmp_path / "detector.json").write_text(content)
    with pytest.raises(ValueError, match=r"detector\.json is no detector config"):
        load_detector(tmp_path)


def test_broken_or_foreign_weights_are_named(tmp_path, small_detector) -> None:
    small_detector.save(tmp_path)
    config = json.loads((tmp_path / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps(config | {"roi_size": 2}))
    with pytest.raises(ValueError, match=r"detector\.safetensors does not fit"):
        load_detector(tmp_path)
    (tmp_path / "detector.json").write_text(json.dumps(config))
    (tmp_path / "detector.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"detector\.safetensors does not fit"):
        load_detector(tmp_path)
