"""From image vectors to what GPT-2 reads of an image (eqs. 13-14): the fused vector, and both its injections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Scale = Literal["scene", "detail"]
"""Guidance of the whole image (eq. 11) and of its regions (eq. 12)."""
Injection = Literal["prefix", "every_position"]
"""How the vector of eq. 14 enters: before the caption, or added to the embedding of each of its words."""

_QUIET = 0.1
"""Scale of what is added before training. GPT-2's word embeddings start at 0.02, and a vector as large as nn.Linear
makes it drowns them: on scenes (clipcap arm, 400 steps) CIDEr was 52.5 that way and 57.6 with a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What every caption of an image is conditioned on. B images, P slots, H decoder width, V words."""

    embeddings: Float[Tensor, "B P H"]
    """Stand before the caption. Zero where not `valid`."""
    valid: Bool[Tensor, "B P"]
    added: Float[Tensor, "B H"] | None = None
    """Joins the embedding of every word of the caption; None adds nothing."""
    bias: Float[Tensor, "B V"] | None = None
    """What is known of the decoder's words, for `decoder.word_bias`; 0 is nothing, and None that of all. Finite."""
    slots: tuple[tuple[str, int], ...] = ()
    """What the slots are, in order: kinds and how many of each, P in all. `fused` is of eq. 14, the others as in
    `TokenPrefixConfig.kinds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedPrefixConfig:
    """Everything in one vector; the defaults are the paper's."""

    tokens: int = 1
    """Embeddings made from the fused vector (P); 1 is the paper."""
    hidden: int = 512
    """Hidden width of the MLP of eq. 14."""
    injection: Injection = "prefix"
    """`prefix`: P tokens before the caption. `every_position`: one vector, added to the embedding of every word."""

    def __post_init__(self) -> None:
        check_fused(self.tokens, self.hidden, self.injection, least=1)

    def build(
        self, dim: int, width: int, *, guided: bool, scales: Sequence[Scale] = ("scene", "detail")
    ) -> "FusedPrefix":
        """For joint width `dim` and decoder width `width`; `guided` says whether guidance vectors of `scales` come."""
        return FusedPrefix(self, dim, width, guided=guided, scales=scales)


class FusedPrefix(nn.Module):
    """One vector per image, mapped to P tokens, or to one that every word is told (eqs. 13-14).

        C = [f ; W_global ; W_local],   E_vis = W_2 GELU(W_1 C)
    The paper gives E_vis to GPT-2 as "the initial hidden state input" or by "embedding space injection": the two
    injections. Departs from it: the nonlinearity is ours (it names none), P may exceed 1, and C has the guidance
    vectors of the scales in use alone, so that no arm carries weights that only ever see zeros. Regions and words
    reach it through f, W_global and W_local.
    B images, N regions, M scene words, m detail words a region, D joint width, H decoder width.
    """

    def __init__(
        self,
        config: FusedPrefixConfig,
        dim: int,
        width: int,
        *,
        guided: bool,
        scales: Sequence[Scale] = ("scene", "detail"),
    ) -> None:
        super().__init__()
        self.scales = tuple(scales) if guided else ()
        self.injection = config.injection
        self.mlp = FusedTokens(config.tokens, config.hidden, config.injection, (1 + len(self.scales)) * dim, width)

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
        told = self.mlp(condition(fused, scene, detail, self.scales))
        return inject(told, [], [], [], self.injection)


def condition(
    fused: Float[Tensor, "B D"], scene: Float[Tensor, "B D"], detail: Float[Tensor, "B D"], scales: Sequence[Scale]
) -> Float[Tensor, "B C"]:
    """C of eq. 13: f, and the guidance vectors of the scales that there are."""
    own = {"scene": scene, "detail": detail}
    return torch.cat([fused, *(own[scale] for scale in own if scale in scales)], -1)


class FusedTokens(nn.Sequential):
    """The MLP of eq. 14, with its output read as `tokens` embeddings."""

    def __init__(self, tokens: int, hidden: int, injection: Injection, dim: int, width: int) -> None:
        first, last = nn.Linear(dim, hidden), nn.Linear(hidden, tokens * width)
        if injection == "every_position":
            with torch.no_grad():
                last.weight.mul_(_QUIET)
                last.bias.mul_(_QUIET)
        super().__init__(first, nn.GELU(), last, nn.Unflatten(-1, (tokens, width)))


def inject(
    fused: Float[Tensor, "B P H"],
    others: list[Float[Tensor, "B _ H"]],
    valid: list[Bool[Tensor, "B _"]],
    kinds: Sequence[str],
    injection: Injection,
) -> Prefix:
    """The fused embeddings before the `others` of `kinds`, or as what every word is told besides them."""
    if injection == "every_position":
        before, added = fused[:, :0], fused[:, 0]
    else:
        before, added = fused, None
    real = [torch.ones_like(before[..., 0], dtype=torch.bool), *valid]
    slots = [(kind, part.shape[1]) for kind, part in zip(("fused", *kinds), real, strict=True)]
    return Prefix(
        embeddings=torch.cat([before, *others], 1),
        valid=torch.cat(real, 1),
        added=added,
        slots=tuple((kind, count) for kind, count in slots if count),
    )


def check_fused(tokens: int, hidden: int, injection: Injection, *, least: int) -> None:
    """Raise ValueError unless these settings of eq. 14's MLP go together."""
    if tokens < least:
        raise ValueError(f"prefix.tokens must be at least {least}, got {tokens}")
    if hidden < 1:
        raise ValueError(f"prefix.hidden must be at least 1, got {hidden}")
    if injection == "every_position" and tokens != 1:
        raise ValueError(
            f"prefix.injection every_position adds one vector to every word, but prefix.tokens is {tokens}: set it to 1"
        )
