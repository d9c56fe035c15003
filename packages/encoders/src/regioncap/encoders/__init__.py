"""Image, region and text encoders of RegionCap (eqs. 1, 2 and 6)."""

from regioncap.encoders.clip_head import ClipHead, ClipHeadConfig
from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.regions import Regions
from regioncap.encoders.text import TextEncoder, TextEncoderConfig

__all__ = [
    "ClipHead",
    "ClipHeadConfig",
    "ImageFeatures",
    "Regions",
    "TextEncoder",
    "TextEncoderConfig",
]
