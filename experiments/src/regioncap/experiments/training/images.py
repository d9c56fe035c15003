"""Where training takes its images from: the store, or the encoder itself at every step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from regioncap.encoders import AugmentConfig, ImageEncoder, ImageFeatures, augment
from regioncap.encoders.store import FeatureStore


@runtime_checkable
class TrainingImages(Protocol):
    """Gives the features of training images by their rows."""

    def at(self, step: int, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order, as training sees them at a step (from 0)."""
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


class StoredImages:
    """Images as a store has them, the same at every step."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def at(self, step: int, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order."""
        return self._store.images(rows)


class OnTheFlyImages:
    """Read, change and encode pictures when they are asked for.

    How a picture changes is the matter of seed, step and picture alone: not of the batch, nor of what was asked for
    before. Nothing takes a gradient.
    """

    def __init__(self, encoder: ImageEncoder, paths: Sequence[Path], config: AugmentConfig, seed: int) -> None:
        self.encoder, self.paths, self.config, self.seed = encoder, paths, config, seed
        if isinstance(encoder, nn.Module):
            encoder.eval()

    def at(self, step: int, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order, each changed as this step has it."""
        views = [self._view(step, row) for row in rows.tolist()]
        # Training's half precision is not the encoder's: what is stored was computed without it.
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return self.encoder(*(torch.stack(column) for column in zip(*views, strict=True)))

    def _view(self, step: int, row: int) -> tuple[Tensor, ...]:
        view = self.encoder.load(self.paths[row])
        if not self.config.changes:
            return view
        chance = torch.Generator().manual_seed(hash((self.seed, step, row)) % 2**63)
        return augment(view, self.config, chance)
