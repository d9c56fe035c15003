"""A trained detector from its folder, or from torchvision."""

import json
from pathlib import Path
from typing import get_args

from safetensors.torch import load_file

from regioncap.encoders.detection.attributes import AttributesConfig
from regioncap.encoders.detection.box_heads import HeadConfig
from regioncap.encoders.detection.coco import COCO_NAMES, load_coco_detector
from regioncap.encoders.detection.config_json import from_json
from regioncap.encoders.detection.detector import CONFIG_FILE, WEIGHTS_FILE, Detector, DetectorConfig, TrunkConfig

_CLASSES = {
    kind.__name__: kind
    for kind in (DetectorConfig, *get_args(TrunkConfig), *get_args(HeadConfig), *get_args(AttributesConfig))
}


def load_detector(weights: Path) -> Detector:
    """Return a float32 detector in evaluation mode: the one that `Detector.save` wrote to the folder `weights`; or
    torchvision's, if that is a weights file of its `fasterrcnn_resnet50_fpn` or the name COCO_V1.

    Raises ValueError naming the file that is missing, cannot be read, or belongs to another architecture.
    """
    if weights.is_file() or str(weights) in COCO_NAMES:
        return load_coco_detector(str(weights))
    return _from_folder(weights)


def _from_folder(folder: Path) -> Detector:
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise ValueError(f"{file} is missing: give the folder of a trained detector (made by Detector.save)")
    try:
        config = from_json(json.loads(config_file.read_text()), _CLASSES)
        if not isinstance(config, DetectorConfig):
            raise ValueError(f"it holds a {type(config).__name__}")
    except ValueError as error:
        raise ValueError(f"{config_file} is no detector config ({error}): train the detector again") from error
    detector = Detector(config)
    try:
        detector.load_state_dict(load_file(weights_file))
    except Exception as error:  # safetensors and torch each raise types of their own
        reason = str(error).splitlines()[0]
        raise ValueError(f"{weights_file} does not fit {config_file} ({reason}): train the detector again") from error
    return detector.eval()
