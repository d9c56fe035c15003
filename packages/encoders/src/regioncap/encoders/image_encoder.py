"""What every frozen image encoder can do, so that one stands in for another."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from regioncap.encoders.image_features import ImageFeatures


@runtime_checkable
class ImageEncoder(Protocol):
    """Pictures on disk -> `ImageFeatures`, in two steps: `load` in many threads, the call in batches.

    An encoder is called with the tensors that its own `load` gave, each stacked over the batch:

        encoder(*(torch.stack(column) for column in zip(*(encoder.load(path) for path in paths))))
    """

    @property
    def pooled_dim(self) -> int:
        """G, the width of the activations before the CLIP-style head."""
        ...

    @property
    def region_dim(self) -> int:
        """R, the raw region width."""
        ...

    @property
    def regions_per_image(self) -> int:
        """N, the most regions of an image."""
        ...

    @property
    def words(self) -> tuple[str, ...]:
        """Names it can give to regions, in the order of `Regions.words`; empty if it gives none."""
        ...

    @property
    def words_per_region(self) -> int:
        """Q, the most names of a region."""
        ...

    def load(self, path: Path) -> tuple[Tensor, ...]:
        """Read one picture as this encoder wants it; mostly one tensor, more where its parts want different sizes.

        Raises ValueError, one line that names the file, for what does not decode.
        """
        ...

    def __call__(self, *pixels: Tensor) -> ImageFeatures:
        """Encode a batch."""
        ...
