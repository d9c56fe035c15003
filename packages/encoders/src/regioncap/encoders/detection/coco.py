"""torchvision's Faster R-CNN trained on COCO, from its weights file or by its name."""

from dataclasses import replace

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from regioncap.encoders.detection.detector import Detector
from regioncap.encoders.detection.presets import resnet50_fpn
from regioncap.encoders.detection.resnet import ResNetFpnConfig
from regioncap.encoders.detection.torchvision_weights import load_weights

COCO_NAMES = tuple(FasterRCNN_ResNet50_FPN_Weights.__members__)
"""What torchvision calls its published weights."""


def load_coco_detector(weights: str) -> Detector:
    """Return torchvision's `fasterrcnn_resnet50_fpn` with the weights in a file, or of the name COCO_V1.

    Its 90 classes carry the names that torchvision publishes with COCO_V1, ten of which are "N/A". In evaluation mode,
    for pictures of 800 px unless it is told otherwise. Raises ValueError naming what is missing, or does not fit.
    """
    state = load_weights(weights, FasterRCNN_ResNet50_FPN_Weights, "encoder.weights")
    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    # COCO_V1 was trained with no epsilon; torchvision sets it to 0 when it loads them.
    config = resnet50_fpn(tuple(categories[1:]), trunk=ResNetFpnConfig(batch_norm_epsilon=0.0))
    detector = Detector(replace(config, image_size=800))
    fitting = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    try:
        detector.model.load_state_dict(fitting)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[1].strip()
        raise ValueError(
            f"{weights} is no fasterrcnn_resnet50_fpn with COCO's {len(categories)} categories ({reason}): "
            "give torchvision's own weights, or a folder made by Detector.save"
        ) from error
    return detector.eval()
