"""What keyword heads read of an image's features."""

from regioncap.encoders import ImageFeatures
from regioncap.guidance import KeywordInputs


def inputs_of(images: ImageFeatures) -> KeywordInputs:
    """The features as the guidance package takes them."""
    regions = images.regions
    return KeywordInputs(pooled=images.pooled, regions=regions.features, boxes=regions.boxes, valid=regions.valid)
