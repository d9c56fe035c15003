from dataclasses import replace
from pathlib import Path

import pytest

from regioncap.experiments.detection.presets import DETECTORS
from regioncap.experiments.detection.training import FROM_DATA
from regioncap.experiments.scenes_encoders import ScenesEncodersConfig


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_takes_its_classes_from_the_boxes(name: str) -> None:
    assert DETECTORS[name]().detector.classes == FROM_DATA


def test_scenes_is_what_the_shipped_encoders_are_made_with() -> None:
    shipped, preset = ScenesEncodersConfig(out=Path("unused")), DETECTORS["scenes"]()
    assert replace(preset.detector, classes=shipped.detector.classes) == shipped.detector
    assert preset.training == shipped.detector_training
