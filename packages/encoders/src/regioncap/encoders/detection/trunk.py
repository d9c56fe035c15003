"""What lies under a detector: pixels to feature maps, in a part that may be cached and a part that is learned."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

Maps = dict[str, Float[Tensor, "B _C _h _w"]]
"""Feature maps of one batch by name, finest first."""


class Trunk(nn.Module, ABC):
    """Pixels -> `frozen_maps` -> `body_maps` -> `pyramid`, which the proposal network and the box head read.

    The first step has no parameter that learns: what it returns can be computed once and stored. The second finishes
    the pre-trained network, the third brings its maps to one width. A step that a trunk lacks hands on what it gets.
    B images of S x S pixels.
    """

    out_channels: int
    """Channels of every level of the pyramid (C)."""
    pooled_channels: int
    """Channels of the map that the image vector is averaged from."""
    pooled_levels: tuple[str, ...]
    """The levels that regions are pooled from; there may be one more, for proposals alone."""
    levels: int
    """Number of levels, that one counted."""
    finest_stride: int
    """Pixels per cell of the first level."""
    multiple: int
    """Sides of the pictures must be a multiple of this."""
    image_mean: tuple[float, float, float]
    """What is subtracted from RGB in [0, 1]."""
    image_std: tuple[float, float, float]
    """What the difference is divided by."""

    @abstractmethod
    def frozen_maps(self, normalised: Float[Tensor, "B 3 S S"]) -> Maps:
        """Return the maps before the part that learns; pixels themselves if all of it does."""

    @abstractmethod
    def body_maps(self, maps: Maps) -> Maps:
        """Return the maps of the whole network."""

    @abstractmethod
    def pyramid(self, body_maps: Maps) -> Maps:
        """Return the maps that detection reads, all of `out_channels`."""

    @abstractmethod
    def pooled_map(self, body_maps: Maps) -> Float[Tensor, "B G h w"]:
        """Return the map that the image vector is averaged from."""

    @abstractmethod
    def load_pretrained(self) -> Mapping[str, Tensor]:
        """Load the weights that the config names, if any, and return those it has no place for.

        Raises ValueError naming what is missing.
        """

    def forward(self, normalised: Float[Tensor, "B 3 S S"]) -> Maps:
        """Return the pyramid of pictures already normalised, as torchvision's `FasterRCNN` calls its backbone."""
        return self.pyramid(self.body_maps(self.frozen_maps(normalised)))
