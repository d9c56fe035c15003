"""Image vector from one encoder, regions from another: CLIP beside Faster R-CNN, as in the paper."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.image_features import ImageFeatures


@runtime_checkable
class GlobalEncoder(Protocol):
    """An image encoder that can be asked for the image vector alone, from the first tensor of its `load`."""

    @property
    def pooled_dim(self) -> int:
        """G, the width of the activations before the CLIP-style head."""
        ...

    def load(self, path: Path) -> tuple[Tensor, ...]:
        """Read one picture; the first tensor is its pixels."""
        ...

    def pool(self, pixels: Float[Tensor, "B 3 Y X"]) -> Float[Tensor, "B G"]:
        """Return the image vectors."""
        ...


class CompositeEncoder(nn.Module):
    """g from `whole` (eq. 1), regions and their words from `regions` (eq. 2), each with its own view of the picture.

    B images; N regions of R channels as `regions` has them, G activations as `whole` has them.
    """

    def __init__(self, whole: GlobalEncoder, regions: ImageEncoder) -> None:
        super().__init__()
        self.whole, self.regions = whole, regions

    @property
    def pooled_dim(self) -> int:
        """G, of the encoder of the whole image."""
        return self.whole.pooled_dim

    @property
    def region_dim(self) -> int:
        """R, of the region encoder."""
        return self.regions.region_dim

    @property
    def regions_per_image(self) -> int:
        """N, of the region encoder."""
        return self.regions.regions_per_image

    @property
    def words(self) -> tuple[str, ...]:
        """The region encoder's."""
        return self.regions.words

    @property
    def words_per_region(self) -> int:
        """Q, of the region encoder."""
        return self.regions.words_per_region

    def load(self, path: Path) -> tuple[Tensor, ...]:
        """Read a picture twice, as either wants it: pixels of the whole first, then all that `regions` takes."""
        return (self.whole.load(path)[0], *self.regions.load(path))

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "B 3 Y X"], *views: Tensor) -> ImageFeatures:
        """Encode what `load` gave."""
        return ImageFeatures(pooled=self.whole.pool(pixels), regions=self.regions(*views).regions)
