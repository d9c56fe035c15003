"""What a region encoder saw in each image."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Region features with their boxes (eq. 2). B images, N slots, R channels, Q words.

    An image with fewer than N regions is padded; padded rows are zero and `valid` is False there. Every image has at
    least one valid region.
    """

    features: Float[Tensor, "B N R"]
    boxes: Float[Tensor, "B N 4"]
    """x0 y0 x1 y1 as fractions of the image, in [0, 1]."""
    scores: Float[Tensor, "B N"]
    """The detector's confidence in [0, 1]; 1 where the encoder does not detect."""
    valid: Bool[Tensor, "B N"]
    """False marks padding; carried from here, never re-derived downstream."""
    words: Int[Tensor, "B N Q"]
    """What the encoder calls a region (class, attributes): indices into `ImageEncoder.words`, -1 for none. Q = 0 for an
    encoder that names nothing."""
    word_scores: Float[Tensor, "B N Q"]
    """Confidence of each word in [0, 1]; 0 where there is none."""
