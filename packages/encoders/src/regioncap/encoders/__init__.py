"""Image, region and text encoders of RegionCap (eqs. 1, 2 and 6)."""

from regioncap.encoders.arithmetic import arithmetic, computes_bfloat16
from regioncap.encoders.augment import AugmentConfig, augment
from regioncap.encoders.backbones import (
    Backbone,
    EfficientNetLiteConfig,
    ResNetConfig,
    StackedMapsConfig,
    VitMapConfig,
)
from regioncap.encoders.clip import ClipEncoder, ClipEncoderConfig
from regioncap.encoders.clip_head import ClipHead, ClipHeadConfig
from regioncap.encoders.clip_lora import ClipLoraConfig
from regioncap.encoders.clip_tail import ClipTail, ClipTailConfig
from regioncap.encoders.clip_text import ClipText
from regioncap.encoders.composite import CompositeEncoder, GlobalEncoder
from regioncap.encoders.contrastive import (
    ContrastiveConfig,
    RetrievalRecall,
    info_nce,
    retrieval_recall,
    train_clip_head,
)
from regioncap.encoders.detection import (
    AttributeHeadConfig,
    BoxTargets,
    Detections,
    Detector,
    DetectorConfig,
    DetectorTraining,
    DetectorTrainingConfig,
    EfficientNetFpnConfig,
    FasterRcnnEncoder,
    FasterRcnnEncoderConfig,
    FeaturePyramid,
    MapExamples,
    MeanMlpHeadConfig,
    NoAttributesConfig,
    PixelExamples,
    ResNetC4Config,
    ResNetFpnConfig,
    SmallTrunkConfig,
    efficientnet_fpn,
    load_detector,
    resnet50_c4,
    resnet50_fpn,
    train_detector,
    write_maps,
)
from regioncap.encoders.efficientnet_lite import EfficientNetLite, load_efficientnet_lite
from regioncap.encoders.grid import GridEncoder, GridEncoderConfig
from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.image_text_head import ImageTextHead, ImageTextHeadConfig
from regioncap.encoders.images import load_image, read_image
from regioncap.encoders.regions import Regions
from regioncap.encoders.small_bert import SmallBertConfig, build_small_bert
from regioncap.encoders.text import TextEncoder, TextEncoderConfig

__all__ = [
    "AttributeHeadConfig",
    "AugmentConfig",
    "Backbone",
    "BoxTargets",
    "ClipEncoder",
    "ClipEncoderConfig",
    "ClipHead",
    "ClipHeadConfig",
    "ClipLoraConfig",
    "ClipTail",
    "ClipTailConfig",
    "ClipText",
    "CompositeEncoder",
    "ContrastiveConfig",
    "Detections",
    "Detector",
    "DetectorConfig",
    "DetectorTraining",
    "DetectorTrainingConfig",
    "EfficientNetFpnConfig",
    "EfficientNetLite",
    "EfficientNetLiteConfig",
    "FasterRcnnEncoder",
    "FasterRcnnEncoderConfig",
    "FeaturePyramid",
    "GlobalEncoder",
    "GridEncoder",
    "GridEncoderConfig",
    "ImageEncoder",
    "ImageFeatures",
    "ImageTextHead",
    "ImageTextHeadConfig",
    "MapExamples",
    "MeanMlpHeadConfig",
    "NoAttributesConfig",
    "PixelExamples",
    "Regions",
    "ResNetC4Config",
    "ResNetConfig",
    "ResNetFpnConfig",
    "RetrievalRecall",
    "SmallBertConfig",
    "SmallTrunkConfig",
    "StackedMapsConfig",
    "TextEncoder",
    "TextEncoderConfig",
    "VitMapConfig",
    "arithmetic",
    "augment",
    "build_small_bert",
    "computes_bfloat16",
    "efficientnet_fpn",
    "info_nce",
    "load_detector",
    "load_efficientnet_lite",
    "load_image",
    "read_image",
    "resnet50_c4",
    "resnet50_fpn",
    "retrieval_recall",
    "train_clip_head",
    "train_detector",
    "write_maps",
]
