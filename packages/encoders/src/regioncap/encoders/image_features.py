"""All that a frozen image encoder says of a picture."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from regioncap.encoders.regions import Regions


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """One image vector and the regions of every picture. B images, G channels.

    `pooled` are the activations *before* the CLIP-style head, so that phase 2 can train the head over stored features.
    """

    pooled: Float[Tensor, "B G"]
    regions: Regions
