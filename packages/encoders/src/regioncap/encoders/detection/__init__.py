"""Faster R-CNN detectors: architectures, training, and the region encoder over them."""

from regioncap.encoders.detection.attributes import AttributeHeadConfig, NoAttributesConfig
from regioncap.encoders.detection.box_heads import Layer4HeadConfig, MeanMlpHeadConfig, MlpHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets, Detections, mirror
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.examples import Examples, PixelExamples
from regioncap.encoders.detection.faster_rcnn import FasterRcnnEncoder, FasterRcnnEncoderConfig
from regioncap.encoders.detection.feature_pyramid import FeaturePyramid
from regioncap.encoders.detection.presets import efficientnet_fpn, resnet50_c4, resnet50_fpn
from regioncap.encoders.detection.resnet import ResNetC4Config, ResNetFpnConfig
from regioncap.encoders.detection.small_trunk import SmallTrunkConfig
from regioncap.encoders.detection.stored import load_detector
from regioncap.encoders.detection.stored_maps import MapExamples, write_maps
from regioncap.encoders.detection.training import DetectorTraining, DetectorTrainingConfig, train_detector

__all__ = [
    "AttributeHeadConfig",
    "BoxTargets",
    "Detections",
    "Detector",
    "DetectorConfig",
    "DetectorTraining",
    "DetectorTrainingConfig",
    "EfficientNetFpnConfig",
    "Examples",
    "FasterRcnnEncoder",
    "FasterRcnnEncoderConfig",
    "FeaturePyramid",
    "Layer4HeadConfig",
    "MapExamples",
    "MeanMlpHeadConfig",
    "MlpHeadConfig",
    "NoAttributesConfig",
    "PixelExamples",
    "ResNetC4Config",
    "ResNetFpnConfig",
    "SmallTrunkConfig",
    "efficientnet_fpn",
    "load_detector",
    "mirror",
    "resnet50_c4",
    "resnet50_fpn",
    "train_detector",
    "write_maps",
]
