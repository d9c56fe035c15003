"""ClipCap's two mapping networks (Mokady, Hertz and Bermano 2021, arXiv 2111.09734): one image vector to P tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.decoder.prefix import Prefix, Scale, condition, inject


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpMappingConfig:
    """ClipCap's MLP; the default is the published one."""

    tokens: int = 10
    """Embeddings made from the image vector (P, the paper's k)."""

    def __post_init__(self) -> None:
        _at_least_one(tokens=self.tokens)

    def build(
        self, dim: int, width: int, *, guided: bool, scales: Sequence[Scale] = ("scene", "detail")
    ) -> "MappedPrefix":
        """For joint width `dim` and decoder width `width`; `guided` says whether guidance vectors of `scales` come."""
        told = tuple(scales) if guided else ()
        return MappedPrefix(MlpMapping(self, (1 + len(told)) * dim, width), told)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerMappingConfig:
    """ClipCap's transformer; the defaults are the published ones."""

    tokens: int = 10
    """Learned constant tokens, whose outputs become the prefix (P, the paper's k)."""
    expanded: int = 10
    """Tokens that the image vector is expanded to (E)."""
    layers: int = 8
    heads: int = 8
    ratio: float = 2.0
    """Hidden width of a layer's feed-forward network over the decoder's; the paper is silent, its code says 2."""

    def __post_init__(self) -> None:
        _at_least_one(tokens=self.tokens, expanded=self.expanded, layers=self.layers, heads=self.heads)
        if not self.ratio > 0:
            raise ValueError(f"prefix.ratio must be above 0, got {self.ratio}")

    def build(
        self, dim: int, width: int, *, guided: bool, scales: Sequence[Scale] = ("scene", "detail")
    ) -> "MappedPrefix":
        """For joint width `dim` and decoder width `width`; `guided` says whether guidance vectors of `scales` come.

        Raises ValueError if the heads do not divide the decoder's width.
        """
        told = tuple(scales) if guided else ()
        return MappedPrefix(TransformerMapping(self, (1 + len(told)) * dim, width), told)


class MappedPrefix(nn.Module):
    """A prefix from the image vector alone, by either network.

    ClipCap gives it CLIP's image embedding. Here it is C of eq. 13, which is that same vector in an arm without regions
    and guidance; with guidance its vectors join it.
    B images, N regions, M scene words, m detail words a region, D joint width, H decoder width.
    """

    def __init__(self, network: "MlpMapping | TransformerMapping", scales: tuple[Scale, ...]) -> None:
        super().__init__()
        self.network, self.scales = network, scales

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        scene: Float[Tensor, "B D"],
        detail: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        region_valid: Bool[Tensor, "B N"],
        region_detail: Float[Tensor, "B Nd D"],
        scene_tokens: Float[Tensor, "B M D"],
        region_boxes: Float[Tensor, "B N 4"] | None = None,
        detail_tokens: Float[Tensor, "B Nd m D"] | None = None,
        detail_words: Int[Tensor, "B Nd m"] | None = None,
        detail_weights: Float[Tensor, "B Nd m"] | None = None,
        keyword_embeddings: Float[Tensor, "B K H"] | None = None,
        keyword_scores: Float[Tensor, "B K"] | None = None,
        keyword_valid: Bool[Tensor, "B K"] | None = None,
    ) -> Prefix:
        """The prefix; every slot is real. The arguments are those of `TokenPrefix`, of which it reads three."""
        tokens = self.network(condition(fused, scene, detail, self.scales))
        return inject(tokens, [], [], [], "prefix")


class MlpMapping(nn.Sequential):
    """The MLP: one hidden layer.

        p_1 .. p_P = W_2 tanh(W_1 c + b_1) + b_2,   W_1 in R^{(P H / 2) x C}
    The paper says "a single hidden layer"; width and tanh are those of its code. C input channels, H decoder width.
    """

    def __init__(self, config: MlpMappingConfig, dim: int, width: int) -> None:
        hidden = max(1, config.tokens * width // 2)
        last = nn.Linear(hidden, config.tokens * width)
        super().__init__(nn.Linear(dim, hidden), nn.Tanh(), last, nn.Unflatten(-1, (config.tokens, width)))


class TransformerMapping(nn.Module):
    """The transformer: constants that ask the expanded image vector, and each other.

        x = [ W c + b, in E tokens ; t_1 .. t_P ],   p_1 .. p_P = the last P outputs of the layers
        each layer:  x += attend(LayerNorm(x)),   x += W_b relu(W_a LayerNorm(x))
    t are learned. Attention sees all E + P tokens from each of them, and there are no positions: W makes the expanded
    tokens differ, and t the constants. As in the paper's code there is neither dropout nor a norm after the last layer,
    and t starts as drawn from N(0, 1). Departs from that code in that queries, keys and values have biases.
    C input channels, E expanded tokens, P constants, H decoder width.
    """

    def __init__(self, config: TransformerMappingConfig, dim: int, width: int) -> None:
        super().__init__()
        if width % config.heads:
            raise ValueError(
                f"prefix.heads must divide the decoder's width, got {config.heads} heads for a width of {width}"
            )
        self.expand = nn.Sequential(nn.Linear(dim, config.expanded * width), nn.Unflatten(-1, (config.expanded, width)))
        self.constants = nn.Parameter(torch.randn(config.tokens, width))
        # Built one by one: nn.TransformerEncoder copies one layer, so that all would start alike.
        self.layers = nn.Sequential(*(_layer(config, width) for _ in range(config.layers)))

    def forward(self, x: Float[Tensor, "B C"]) -> Float[Tensor, "B P H"]:
        """Image vectors -> prefix tokens."""
        tokens = torch.cat([self.expand(x), self.constants.expand(len(x), -1, -1)], 1)  # B E+P H
        mapped: Tensor = self.layers(tokens)[:, -len(self.constants) :]
        return mapped


def _layer(config: TransformerMappingConfig, width: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width,
        config.heads,
        dim_feedforward=max(1, round(config.ratio * width)),
        dropout=0.0,
        activation="relu",
        batch_first=True,
        norm_first=True,
    )


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"prefix.{name} must be at least 1, got {count}")
