"""The CLIP-style head: image and text features into one joint space (eqs. 1 and 6)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipHeadConfig:
    """Shape of a `ClipHead`."""

    layers: int = 1
    """Linear layers of the image side; 1 is a plain projection."""
    hidden: int = 512
    """Width between the image side's layers; unused when `layers` is 1."""
    dropout: float = 0.0
    """Share of the image encoder's activations dropped in training."""
    temperature: float = 0.07
    """The learnable softmax temperature at the start; the default is CLIP's."""

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"clip_head.layers must be at least 1, got {self.layers}")
        if self.hidden < 1:
            raise ValueError(f"clip_head.hidden must be at least 1, got {self.hidden}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"clip_head.dropout must lie in [0, 1), got {self.dropout}")
        if not self.temperature > 0.0:
            raise ValueError(f"clip_head.temperature must be positive, got {self.temperature}")

    def build(self, pooled_dim: int, text_dim: int, dim: int) -> "ClipHead":
        """Return an untrained head from `pooled_dim` and `text_dim` channels into the joint width `dim`."""
        return ClipHead(self, pooled_dim, text_dim, dim)


class ClipHead(nn.Module):
    """Map pooled image activations and text vectors onto one unit sphere (eqs. 1 and 6).

    The paper takes CLIP's own two towers; here frozen encoders stand below and only this head is learned, which is
    what a data set of some thousand images can carry. B images, L texts, G and T channels, D joint width.
    """

    def __init__(self, config: ClipHeadConfig, pooled_dim: int, text_dim: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.pooled_dim, self.text_dim, self.dim = pooled_dim, text_dim, dim
        widths = [pooled_dim, *[config.hidden] * (config.layers - 1), dim]
        self.image_layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.text_projection = nn.Linear(text_dim, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def embed_image(self, pooled: Float[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        """Return the global image vector g, L2-normalised (eq. 1)."""
        x = self.dropout(pooled)
        for layer in self.image_layers[:-1]:
            x = F.gelu(layer(x))
        return F.normalize(self.image_layers[-1](x), dim=-1)

    def embed_text(self, text: Float[Tensor, "L T"]) -> Float[Tensor, "L D"]:
        """Return text vectors in the space of g, L2-normalised."""
        return F.normalize(self.text_projection(text), dim=-1)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature, kept at 100 or less as in CLIP so that no logit overflows."""
        return self.log_scale.exp().clamp(max=100.0)

    def last_layers(self, n: int) -> list[nn.Parameter]:
        """Return the parameters of the image side's last `n` layers (all of them if it has fewer), for phase 2."""
        if n < 0:
            raise ValueError(f"the number of layers to unfreeze must not be negative, got {n}")
        kept = list(self.image_layers)[max(0, len(self.image_layers) - n) :]
        return [parameter for layer in kept for parameter in layer.parameters()]
