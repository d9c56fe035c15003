"""What an image and its regions are called, learned from captions: queries into the keyword banks."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank

LEAST_SPREAD = 0.3
"""A channel that hardly varies counts as varying by at least this share of the mean one: else its noise is heard."""
BOX_CHANNELS = 8
"""What a region head is told of where its region lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordQueries:
    """Where in text space the words of an image lie. B images, N regions, E width of a bank.

    The log-odds of word w are those of how frequent it is plus q . e_w / sqrt(E), see `LearnedScores`.
    """

    scene: Float[Tensor, "B Es"]
    """Of the whole image, among scene words."""
    detail: Float[Tensor, "B Ed"]
    """Of the whole image, among detail words."""
    regions: Float[Tensor, "B N Ed"]
    """Of each region, among detail words; zero in padding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeywordInputs:
    """What the heads read of images: what frozen encoders say, no trained stage before them. B images, N regions."""

    pooled: Float[Tensor, "B G"]
    regions: Float[Tensor, "B N R"]
    boxes: Float[Tensor, "B N 4"]
    """x0 y0 x1 y1 as fractions of the image."""
    valid: Bool[Tensor, "B N"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordHeadsConfig:
    """Shape of the three heads."""

    hidden: int = 512
    """Width of the layer between features and text space."""
    dropout: float = 0.5
    """Share of the features, and of that layer, dropped in training."""

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"keywords.heads.hidden must be at least 1, got {self.hidden}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"keywords.heads.dropout must lie in [0, 1), got {self.dropout}")

    def build(
        self, pooled_dim: int, region_dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank
    ) -> "KeywordHeads":
        """Untrained heads for features of these widths."""
        return KeywordHeads(self, pooled_dim, region_dim, scene_bank.width, detail_bank.width)


class KeywordHeads(nn.Module):
    """Three heads: scene words and detail words of an image, detail words of a region.

        q = W_2 dropout(GELU( W_1 dropout((x - mean) / spread) ))
    x is what the frozen image encoder says of the image, or of the region and where it lies. Beyond the paper, whose
    words are found by similarity alone. A head answers in text space rather than with a number per word, so that it
    can be asked for words it was never taught, and costs the same for a bank of any size. `keyword_training` teaches
    them; a captioner must be trained on what heads say of images that they have not seen (DESIGN 4.3).
    """

    def __init__(
        self, config: KeywordHeadsConfig, pooled_dim: int, region_dim: int, scene_dim: int, detail_dim: int
    ) -> None:
        super().__init__()
        self.config = config
        self.pooled_dim, self.region_dim = pooled_dim, region_dim
        self.scene = KeywordHead(config, pooled_dim, scene_dim)
        self.detail = KeywordHead(config, pooled_dim, detail_dim)
        self.region = KeywordHead(config, region_dim + BOX_CHANNELS, detail_dim)

    def calibrate(self, inputs: KeywordInputs) -> None:
        """Set mean and spread of the features to those of these images, which should be some hundreds of train."""
        self.scene.calibrate(inputs.pooled)
        self.detail.calibrate(inputs.pooled)
        self.region.calibrate(_placed(inputs)[inputs.valid])

    def forward(self, inputs: KeywordInputs) -> KeywordQueries:
        """Queries of the images and of their regions."""
        return KeywordQueries(
            scene=self.scene(inputs.pooled),
            detail=self.detail(inputs.pooled),
            regions=self.region(_placed(inputs)) * inputs.valid[..., None],
        )


class KeywordHead(nn.Module):
    """One of the heads, see `KeywordHeads`."""

    mean: Tensor
    spread: Tensor

    def __init__(self, config: KeywordHeadsConfig, features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        last = nn.Linear(config.hidden, width)
        with torch.no_grad():  # starts near the words' frequencies
            last.weight.mul_(0.1)
        drop = nn.Dropout(config.dropout)
        self.layers = nn.Sequential(drop, nn.Linear(features, config.hidden), nn.GELU(), drop, last)

    @torch.no_grad()
    def calibrate(self, features: Float[Tensor, "n F"]) -> None:
        """Set mean and spread."""
        self.mean.copy_(features.float().mean(0))
        spread = features.float().std(0, correction=0)
        self.spread.copy_(spread.clamp(min=LEAST_SPREAD * float(spread.mean())).clamp(min=1e-6))

    def forward(self, features: Float[Tensor, "*rows F"]) -> Float[Tensor, "*rows E"]:
        """Queries, in float32."""
        queries: Tensor = self.layers((features.float() - self.mean) / self.spread)
        return queries.float()


def _placed(inputs: KeywordInputs) -> Float[Tensor, "B N F"]:
    """Region features with where the regions lie: a shirt and who wears it look alike, but for size and place."""
    x0, y0, x1, y1 = inputs.boxes.float().unbind(-1)
    width, height = x1 - x0, y1 - y0
    root = (width * height).clamp(min=0).sqrt()
    shape = (width.clamp(min=1e-3) / height.clamp(min=1e-3)).log()
    place = torch.stack([x0, y0, x1, y1, width, height, root, shape], -1)
    assert place.shape[-1] == BOX_CHANNELS
    return torch.cat([inputs.regions.float(), place], -1)


def gain_scale(width: int) -> float:
    """1 / sqrt(E): what a product of a query with a word of norm sqrt(E) is scaled by."""
    return 1 / math.sqrt(width)
