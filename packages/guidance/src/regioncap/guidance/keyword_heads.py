"""What an image and its regions are called, learned from captions: queries into the keyword banks."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank

LEAST_SPREAD = 0.3
"""A channel that hardly varies counts as varying by at least this share of the mean one: else its noise is heard."""
BOX_CHANNELS = 8
"""What a region head is told of where its region lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordQueries:
    """Where in text space the words of an image lie. B images, N regions, E width of a bank.

    The log-odds of word w are those of how frequent it is plus q . k_w / sqrt(E), see `LearnedScores`.
    """

    scene: Float[Tensor, "B Es"]
    """Of the whole image, among scene words."""
    detail: Float[Tensor, "B Ed"]
    """Of the whole image, among detail words."""
    regions: Float[Tensor, "B N Ed"]
    """Of each region, among detail words; zero in padding."""
    mix: Float[Tensor, " B"]
    """How much of what the best region says for a detail word joins what the image says for it."""


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
    """Share of an image's features, and of that layer, dropped in training."""
    region_dropout: float = 0.3
    """The same for regions, of which there are more to learn from."""
    image_reads: Literal["image", "image-and-regions"] = "image-and-regions"
    """What the two heads of the image read: its vector alone, or what is greatest over its regions beside it."""

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"keywords.heads.hidden must be at least 1, got {self.hidden}")
        for name in ("dropout", "region_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"keywords.heads.{name} must lie in [0, 1), got {getattr(self, name)}")

    def build(
        self, pooled_dim: int, region_dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank
    ) -> "KeywordHeads":
        """Untrained heads for features of these widths."""
        return KeywordHeads(self, pooled_dim, region_dim, scene_bank.width, detail_bank.width)


class KeywordHeads(nn.Module):
    """Three heads: scene words and detail words of an image, detail words of a region.

        region   h_i = GELU( W_1 x_i ),                          q_i = W_2 h_i
        image    h = GELU( W_3 [x ; max_i h_i] ),                q = W_4 h,    one such pair for scene, one for detail
        detail words of an image gain   q . e_w / sqrt(E) + mix max_i q_i . e_w / sqrt(E)
    x is what the frozen image encoder says of the image, x_i what it says of a region and where that lies, both less
    their mean and over their spread, with dropout before each W. Beyond the paper, whose words are found by similarity
    alone. With `image_reads image` W_3 reads x alone. A head answers in text space rather than with a number per word,
    so that it can be asked for words it was never taught, and costs the same for a bank of any size. `keyword_training`
    teaches them; a captioner must be trained on what heads say of images that they have not seen (DESIGN 4.3).
    """

    def __init__(
        self, config: KeywordHeadsConfig, pooled_dim: int, region_dim: int, scene_dim: int, detail_dim: int
    ) -> None:
        super().__init__()
        self.config = config
        self.pooled_dim, self.region_dim = pooled_dim, region_dim
        hidden = config.hidden
        self.image_scaling = Scaling(pooled_dim)
        self.region_scaling = Scaling(region_dim + BOX_CHANNELS)
        self.region_hidden = nn.Linear(region_dim + BOX_CHANNELS, hidden)
        self.region_dropout = nn.Dropout(config.region_dropout)
        read = pooled_dim if config.image_reads == "image" else pooled_dim + hidden
        self.scene_hidden = _hidden(read, hidden, config.dropout)
        self.detail_hidden = _hidden(read, hidden, config.dropout)
        self.region = _answer(hidden, detail_dim)
        self.scene = _answer(hidden, scene_dim)
        self.detail = _answer(hidden, detail_dim)
        self.mix = nn.Parameter(torch.tensor(0.5))

    def calibrate(self, inputs: KeywordInputs) -> None:
        """Set mean and spread of the features to those of these images, which should be some hundreds of train."""
        self.image_scaling.calibrate(inputs.pooled)
        self.region_scaling.calibrate(_placed(inputs)[inputs.valid])

    def forward(self, inputs: KeywordInputs) -> KeywordQueries:
        """Queries of the images and of their regions, in float32."""
        owner = inputs.valid.nonzero()[:, 0]
        real = self._dropped(self.region_scaling(_placed(inputs)[inputs.valid]), owner)  # n F
        real = self._dropped(F.gelu(self.region_hidden(real)), owner)  # n H
        image = self.image_scaling(inputs.pooled)
        if self.config.image_reads == "image-and-regions":
            image = torch.cat([image, _greatest(real, inputs.valid)], -1)
        answers = self.region(real).float()
        regions = answers.new_zeros(*inputs.valid.shape, answers.shape[1])
        regions[inputs.valid] = answers
        return KeywordQueries(
            scene=self.scene(self.scene_hidden(image)).float(),
            detail=self.detail(self.detail_hidden(image)).float(),
            regions=regions,
            mix=self.mix.expand(len(image)),
        )

    def _dropped(self, x: Float[Tensor, "n F"], owner: Int[Tensor, " n"]) -> Float[Tensor, "n F"]:
        """Dropout that all regions of an image share: drawing it for each one took longer than all products."""
        if not self.training or not len(owner):
            return x
        kept: Tensor = self.region_dropout(x.new_ones(int(owner.max()) + 1, x.shape[1]))
        return x * kept[owner]


class Scaling(nn.Module):
    """Features less their mean, over their spread."""

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))

    @torch.no_grad()
    def calibrate(self, features: Float[Tensor, "n F"]) -> None:
        """Set mean and spread to those of these features."""
        self.mean.copy_(features.float().mean(0))
        spread = features.float().std(0, correction=0)
        self.spread.copy_(spread.clamp(min=LEAST_SPREAD * float(spread.mean())).clamp(min=1e-6))

    def forward(self, features: Float[Tensor, "*rows F"]) -> Float[Tensor, "*rows F"]:
        """In float32."""
        return (features.float() - self.mean) / self.spread


def _greatest(real: Float[Tensor, "n H"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
    """The greatest value of each channel over an image's regions; 0 for an image without one."""
    image = valid.nonzero()[:, 0]
    nothing = real.new_zeros(len(valid), real.shape[1])
    return nothing.scatter_reduce(0, image[:, None].expand_as(real), real, "amax", include_self=False)


def _hidden(features: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout))


def _answer(hidden: int, width: int) -> nn.Linear:
    last = nn.Linear(hidden, width)
    with torch.no_grad():  # starts near the words' frequencies
        last.weight.mul_(0.1)
    return last


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
