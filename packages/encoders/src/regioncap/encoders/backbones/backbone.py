"""What every backbone can do, so that one stands in for another below a grid or a detector."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor


class Backbone(Protocol):
    """Images to a feature map. B images of S pixels a side, C channels, one cell for `stride` pixels each way.

    It scales and normalises by itself, as its weights were trained; it is frozen.
    """

    @property
    def channels(self) -> int:
        """C."""
        ...

    @property
    def stride(self) -> int:
        """Pixels per cell; S is a multiple of it."""
        ...

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        """Return the float32 feature map of RGB images in [0, 1]."""
        ...
