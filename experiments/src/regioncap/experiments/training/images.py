"""Where training takes its images from: the store, or the encoder itself at every step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from regioncap.encoders import AugmentConfig, ImageEncoder, ImageFeatures, augment


@runtime_checkable
class TrainingImages(Protocol):
    """Gives the features of training images by their rows."""

    def images(self, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImagesConfig:
    """Whether training images are encoded once for ever, or anew at every step and then a little changed.

    The CLIP-style head, its offsets and the keyword statistics are fitted on the stored features either way.
    """

    encode: Literal["once", "each-step"] = "once"
    """`each-step` costs the encoder's time at every step (docs/features.md has the figures)."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How pictures change from step to step."""

    def __post_init__(self) -> None:
        if self.encode == "once" and self.augment.changes:
            raise ValueError(
                "images.augment changes pictures, but images.encode is 'once': features that are stored cannot change; "
                "set --images.encode each-step"
            )


class OnTheFlyImages:
    """Read, change and encode pictures when they are asked for: an encoder with the store's interface.

    The same seed and order of calls give the same changes. Nothing takes a gradient.
    """

    def __init__(self, encoder: ImageEncoder, paths: Sequence[Path], config: AugmentConfig, seed: int) -> None:
        self.encoder, self.paths, self.config = encoder, paths, config
        self._draw = torch.Generator().manual_seed(seed)
        if isinstance(encoder, nn.Module):
            encoder.eval()

    def images(self, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order."""
        views = [self.encoder.load(self.paths[row]) for row in rows.tolist()]
        if self.config.changes:
            views = [augment(view, self.config, self._draw) for view in views]
        # Training's half precision is not the encoder's: what is stored was computed without it.
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return self.encoder(*(torch.stack(column) for column in zip(*views, strict=True)))
