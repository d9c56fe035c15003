"""A trained detector from its folder."""

import json
from pathlib import Path
from typing import get_args

from safetensors.torch import load_file

from regioncap.encoders.detection.attributes import AttributesConfig
from regioncap.encoders.detection.box_heads import HeadConfig
from regioncap.encoders.detection.config_json import from_json
from regioncap.encoders.detection.detector import CONFIG_FILE, WEIGHTS_FILE, Detector, DetectorConfig, TrunkConfig

_CLASSES = {
    kind.__name__: kind
    for kind in (DetectorConfig, *get_args(TrunkConfig), *get_args(HeadConfig), *get_args(AttributesConfig))
}


def load_detector(folder: Path) -> Detector:
    """Return the float32 detector that `Detector.save` wrote, in evaluation mode.

    Raises ValueError naming the file that is missing, cannot be read, or belongs to another architecture.
    """
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
