"""What a trunk says of a batch, in full precision."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from regioncap.encoders.detection.trunk import Maps

LAST = "last"
"""Name of the trunk's last map among the levels, where regions are named by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePyramid:
    """B images, G channels."""

    levels: Maps
    """What detection reads, finest first; `LAST` stands behind them where regions are named by it."""
    pooled_map: Float[Tensor, "B G h w"]
    """What the image vector is averaged from."""


def float32(maps: Maps) -> Maps:
    """Return the maps in full precision."""
    return {name: x.float() for name, x in maps.items()}


def without_last(levels: Maps) -> Maps:
    """Return the levels of the pyramid alone."""
    return {name: x for name, x in levels.items() if name != LAST}
