"""What a detector learns from: pictures, or what the frozen part of its trunk made of them once."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import Detector, Precision
from regioncap.encoders.detection.trunk import Maps


@runtime_checkable
class Examples(Protocol):
    """Pictures with their objects, each also mirrored left to right. B rows of a batch."""

    targets: Sequence[BoxTargets]
    """The objects of every picture, as it is."""

    def maps(
        self, detector: Detector, rows: Int[Tensor, "B"], mirrored: Bool[Tensor, "B"], precision: Precision
    ) -> Maps:
        """Return what `detector.trunk_features` gives for these pictures, mirrored where asked."""
        ...


class PixelExamples:
    """Pictures in memory. n pictures of S pixels a side. Raises ValueError if not every picture has its targets."""

    def __init__(self, images: UInt8[Tensor, "n 3 S S"], targets: Sequence[BoxTargets]) -> None:
        if len(images) != len(targets):
            raise ValueError(f"every picture needs its boxes: got {len(images)} pictures and {len(targets)} targets")
        self.images = images
        self.targets = targets

    def maps(
        self, detector: Detector, rows: Int[Tensor, "B"], mirrored: Bool[Tensor, "B"], precision: Precision
    ) -> Maps:
        """Return the maps, computed."""
        pictures = self.images[rows].float() / 255.0
        pictures[mirrored] = pictures[mirrored].flip(-1)
        return detector.trunk_features(pictures, precision)
