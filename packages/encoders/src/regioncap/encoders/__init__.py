"""Image, region and text encoders of RegionCap (eqs. 1, 2 and 6)."""

from regioncap.encoders.clip_head import ClipHead, ClipHeadConfig
from regioncap.encoders.contrastive import (
    ContrastiveConfig,
    RetrievalRecall,
    info_nce,
    retrieval_recall,
    train_clip_head,
)
from regioncap.encoders.detector import BoxTargets, Detections, Detector, DetectorConfig, load_detector
from regioncap.encoders.detector_training import DetectorTrainingConfig, train_detector
from regioncap.encoders.efficientnet_lite import EfficientNetLite0, load_efficientnet_lite0
from regioncap.encoders.faster_rcnn import FasterRcnnEncoder, FasterRcnnEncoderConfig
from regioncap.encoders.grid import GridEncoder, GridEncoderConfig
from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.images import load_image
from regioncap.encoders.regions import Regions
from regioncap.encoders.small_bert import SmallBertConfig, build_small_bert
from regioncap.encoders.text import TextEncoder, TextEncoderConfig

__all__ = [
    "BoxTargets",
    "ClipHead",
    "ClipHeadConfig",
    "ContrastiveConfig",
    "Detections",
    "Detector",
    "DetectorConfig",
    "DetectorTrainingConfig",
    "EfficientNetLite0",
    "FasterRcnnEncoder",
    "FasterRcnnEncoderConfig",
    "GridEncoder",
    "GridEncoderConfig",
    "ImageEncoder",
    "ImageFeatures",
    "Regions",
    "RetrievalRecall",
    "SmallBertConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "build_small_bert",
    "info_nce",
    "load_detector",
    "load_efficientnet_lite0",
    "load_image",
    "retrieval_recall",
    "train_clip_head",
    "train_detector",
]
