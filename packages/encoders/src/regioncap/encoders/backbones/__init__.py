"""Pre-trained networks from images to a feature map: one protocol, one config class each."""

from regioncap.encoders.backbones.backbone import Backbone
from regioncap.encoders.backbones.efficientnet import EfficientNetLiteConfig
from regioncap.encoders.backbones.resnet import ResNetConfig
from regioncap.encoders.backbones.stacked import StackedMapsConfig
from regioncap.encoders.backbones.vit_map import VitMapConfig

__all__ = ["Backbone", "EfficientNetLiteConfig", "ResNetConfig", "StackedMapsConfig", "VitMapConfig"]
