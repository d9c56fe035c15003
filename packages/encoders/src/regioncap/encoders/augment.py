"""Pictures changed a little every time they are seen, where features are not stored but encoded anew."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How much pictures change; the default changes nothing."""

    crop: float = 1.0
    """Smallest share of the picture's area that a random crop keeps; 1 crops nothing."""
    brightness: float = 0.0
    """The picture gets lighter or darker by up to this many standard deviations of its pixels."""
    contrast: float = 0.0
    """Deviations from the picture's mean are scaled by a factor from 1 - this to 1 + this."""
    flip: float = 0.0
    """Probability of a mirror image. Captions that say left or right then lie, so it is off."""

    def __post_init__(self) -> None:
        if not 0.0 < self.crop <= 1.0:
            raise ValueError(f"augment.crop must lie in (0, 1], got {self.crop}")
        if self.brightness < 0.0:
            raise ValueError(f"augment.brightness must not be negative, got {self.brightness}")
        for name in ("contrast", "flip"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"augment.{name} must lie in [0, 1], got {getattr(self, name)}")

    @property
    def changes(self) -> bool:
        """Whether pictures change at all."""
        return self != AugmentConfig()


def augment(views: tuple[Tensor, ...], config: AugmentConfig, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Change what `ImageEncoder.load` gave of one picture, each view of C Y X pixels by the same draw.

    It works on pixels as the encoder wants them, whatever their normalisation: a crop is enlarged to the view's size
    (bilinear), brightness and contrast are relative to the picture's own mean and deviation. The aspect of a crop
    varies between 3:4 and 4:3 of the picture's. What is no view (such as the part of the picture that a view shows)
    stays: regions' boxes are then those of the changed picture.
    """
    share = 1.0 - (1.0 - config.crop) * _draw(generator)
    aspect = (4 / 3) ** ((2 * _draw(generator) - 1) * (config.crop < 1.0))
    wide, high = min(1.0, (share * aspect) ** 0.5), min(1.0, (share / aspect) ** 0.5)
    left, top = _draw(generator) * (1 - wide), _draw(generator) * (1 - high)
    lighter = config.brightness * (2 * _draw(generator) - 1)
    stronger = 1.0 + config.contrast * (2 * _draw(generator) - 1)
    mirrored = _draw(generator) < config.flip
    return tuple(
        _change(view, (left, top, left + wide, top + high), lighter, stronger, mirrored=mirrored)
        if view.ndim == 3
        else view
        for view in views
    )


def _change(
    view: Tensor, box: tuple[float, float, float, float], lighter: float, stronger: float, *, mirrored: bool
) -> Tensor:
    high, wide = view.shape[-2:]
    x0, y0, x1, y1 = (round(edge * side) for edge, side in zip(box, (wide, high, wide, high), strict=True))
    if (x0, y0, x1, y1) != (0, 0, wide, high):
        part = view[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        view = F.interpolate(part[None], size=(high, wide), mode="bilinear", antialias=True, align_corners=False)[0]
    if lighter != 0.0 or stronger != 1.0:
        mean = view.mean()
        view = (view - mean) * stronger + mean + lighter * view.std()
    return view.flip(-1) if mirrored else view


def _draw(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
