"""A prefix of many tokens: beside the fused vector, regions and words in tokens of their own, in any mix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.decoder.prefix import FusedTokens, Injection, Prefix, Scale, check_fused, condition, inject

TokenKind = Literal["regions", "scene", "detail", "top_detail", "keywords"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrefixConfig:
    """The fused vector, and tokens of other kinds after it."""

    tokens: int = 1
    """Embeddings made from the fused vector (P); 0 leaves it out."""
    hidden: int = 512
    """Hidden width of the MLP of eq. 14."""
    injection: Injection = "prefix"
    """How the fused vector enters: as P tokens, or as one vector added to the embedding of every word. The other
    kinds are tokens before the caption either way."""
    kinds: tuple[TokenKind, ...] = ("regions", "scene")
    """What has tokens of its own, in this order. `regions`: one each; `scene`: one per scene word; `detail`: one per
    detail word of each region; `top_detail`: one for each of the image's most told detail words; `keywords`: one for
    each chosen word, in the decoder's own embeddings. Without guidance there are no words."""
    top: int = 8
    """Words of `top_detail`; an image that has fewer takes them all."""
    boxes: bool = False
    """Whether a region's token is told where the region lies."""

    def __post_init__(self) -> None:
        check_fused(self.tokens, self.hidden, self.injection, least=0)
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"prefix.kinds must name each kind once, got {', '.join(self.kinds)}")
        if self.top < 1:
            raise ValueError(f"prefix.top must be at least 1, got {self.top}; for none leave top_detail out of kinds")
        if self.boxes and "regions" not in self.kinds:
            raise ValueError("prefix.boxes tells the tokens of regions, but prefix.kinds has no regions: add them")

    def build(
        self, dim: int, width: int, *, guided: bool, scales: Sequence[Scale] = ("scene", "detail")
    ) -> "TokenPrefix":
        """For joint width `dim` and decoder width `width`; `guided` says whether guidance vectors of `scales` come.

        Raises ValueError if nothing of the image would reach the decoder.
        """
        return TokenPrefix(self, dim, width, guided=guided, scales=scales)


class TokenPrefix(nn.Module):
    """The fused vector as in `FusedPrefix`, then tokens of other kinds.

        regions       LayerNorm( W_v V_i + W_d W_local_i + W_b [x0 y0 x1 y1 area] ) + e_region
        scene         LayerNorm( W_s s_j ) + e_scene
        detail        LayerNorm( W_w d_ij ) + e_detail
        top_detail    LayerNorm( W_t sum_{ij: word_ij = w} d_ij ) + e_top,   for the w of the largest sums of weights
        keywords      mean of the decoder's embeddings of word k's pieces + w_c score_k + e_keyword
    Beyond the paper: a region's detail words stay bound to their region instead of being averaged over the image, and
    GPT-2's attention chooses among regions and words at every step. e_* are type embeddings. W_b is there with `boxes`.
    A keyword needs no map to be read: w_c and e_keyword start at zero, and it is then the word itself, said before the
    caption (`KeywordPieces`). Keywords may be any number, in any order: what stands in their slots comes with them.
    Without guidance W_d and all of the words' parameters do not exist. Axes of length 0 give no tokens.
    B images, N regions, M scene words, m detail words a region, K keywords, D joint width, H decoder
    width.
    """

    def __init__(
        self,
        config: TokenPrefixConfig,
        dim: int,
        width: int,
        *,
        guided: bool,
        scales: Sequence[Scale] = ("scene", "detail"),
    ) -> None:
        super().__init__()
        self.guided = guided
        self.injection, self.top, self.boxes = config.injection, config.top, config.boxes
        self.scales = tuple(scales) if guided else ()
        self.kinds = tuple(kind for kind in config.kinds if _told(kind, self.scales))
        if not config.tokens and not self.kinds:
            raise ValueError(
                f"prefix.tokens is 0 and prefix.kinds ({', '.join(config.kinds)}) gives no tokens"
                f"{'' if guided else ' without guidance'}: nothing of the image would reach the decoder"
            )
        self.width = width
        fused = (1 + len(self.scales)) * dim
        told = (config.tokens, config.hidden, config.injection, fused, width)
        self.mlp = FusedTokens(*told) if config.tokens else None
        if "regions" in self.kinds:
            self.region = nn.Linear(
                (2 if "detail" in self.scales else 1) * dim + (5 if config.boxes else 0), width
            )  # [W_v W_d W_b]
            self.region_type = _Typed(width)
        if "scene" in self.kinds:
            self.word = nn.Linear(dim, width)
            self.word_type = _Typed(width)
        if "detail" in self.kinds:
            self.detail = nn.Linear(dim, width)
            self.detail_type = _Typed(width)
        if "top_detail" in self.kinds:
            self.top_detail = nn.Linear(dim, width)
            self.top_detail_type = _Typed(width)
        if "keywords" in self.kinds:
            self.keyword_score = nn.Parameter(torch.zeros(width))
            self.keyword_kind = nn.Parameter(torch.zeros(width))

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
        """The prefix. `detail_tokens` are the detail words' vectors as weighted, `detail_words` what tells them apart.

        Boxes are needed with `boxes`, the three of detail for the kinds that name it, the last three for `keywords`.
        Detail must be zero in padding.
        Raises ValueError if one of them is missing, or unless guidance says one detail vector per region, or none at
        all, as built.
        """
        if region_detail.shape[1] != (regions.shape[1] if self.guided else 0):
            raise ValueError(
                f"the prefix was built with guided={self.guided} and got {region_detail.shape[1]} detail vectors for "
                f"{regions.shape[1]} regions: build it for the guidance it is used with"
            )
        if self.mlp is None:
            told = fused.new_zeros(len(fused), 0, self.width)
        else:
            told = self.mlp(condition(fused, scene, detail, self.scales))
        parts, valid = [], []
        for kind in self.kinds:
            match kind:
                case "regions":
                    about = [regions, region_detail] if "detail" in self.scales else [regions]
                    about += [_geometry(_needed(region_boxes, "region_boxes"))] if self.boxes else []
                    token = self.region_type(self.region(torch.cat(about, -1))) * region_valid[..., None]
                    real = region_valid
                case "scene":
                    token = self.word_type(self.word(scene_tokens))
                    real = torch.ones_like(scene_tokens[..., 0], dtype=torch.bool)
                case "detail":
                    vectors = _needed(detail_tokens, "detail_tokens")
                    real = region_valid.repeat_interleave(vectors.shape[2], 1)
                    token = self.detail_type(self.detail(vectors.flatten(1, 2))) * real[..., None]
                case "top_detail":
                    vectors, real = most_told(
                        _needed(detail_words, "detail_words"),
                        _needed(detail_weights, "detail_weights"),
                        _needed(detail_tokens, "detail_tokens"),
                        self.top,
                    )
                    token = self.top_detail_type(self.top_detail(vectors)) * real[..., None]
                case "keywords":
                    real = _needed(keyword_valid, "keyword_valid")
                    scores = _needed(keyword_scores, "keyword_scores")[..., None]
                    words = _needed(keyword_embeddings, "keyword_embeddings")
                    token = (words + scores * self.keyword_score + self.keyword_kind) * real[..., None]
            parts.append(token)
            valid.append(real)
        return inject(told, parts, valid, self.kinds, self.injection)


def most_told(
    words: Int[Tensor, "B N m"], weights: Float[Tensor, "B N m"], tokens: Float[Tensor, "B N m D"], count: int
) -> tuple[Float[Tensor, "B K D"], Bool[Tensor, "B K"]]:
    """The distinct words of each image with the largest sums of weights, at most `count`, best first.

    A word's vector is the sum of its tokens over the regions that it was said of; slots behind an image's last word
    are zero and not valid. Words of weight 0 were not said.
    """
    if not words[0].numel():
        return tokens.new_zeros(len(words), 0, tokens.shape[-1]), words.new_zeros(len(words), 0, dtype=torch.bool)
    flat, weight = words.flatten(1), weights.flatten(1)  # B S
    totals = weight.new_zeros(len(flat), int(flat.max()) + 1).scatter_add(1, flat, weight)
    total, chosen = totals.topk(min(count, totals.shape[1]))  # B K
    said = (flat[:, None] == chosen[..., None]) & (weight[:, None] > 0)  # B K S
    return said.to(tokens.dtype) @ tokens.flatten(1, 2), total > 0


class _Typed(nn.Module):
    """Normalise embeddings of one kind and mark the kind."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, x: Float[Tensor, "B N H"]) -> Float[Tensor, "B N H"]:
        return F.layer_norm(x, x.shape[-1:], self.scale) + self.kind


def _told(kind: TokenKind, scales: Sequence[Scale]) -> bool:
    """Whether there is anything for tokens of a kind to say."""
    match kind:
        case "regions":
            return True
        case "scene":
            return "scene" in scales
        case "detail" | "top_detail":
            return "detail" in scales
        case "keywords":
            return bool(scales)


def _geometry(boxes: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N 5"]:
    """x0 y0 x1 y1 and the area, all in [0, 1]."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.cat([boxes, ((x1 - x0) * (y1 - y0))[..., None]], -1)


def _needed(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise ValueError(f"this prefix reads {name}, but was called without: pass what the stage before it returns")
    return tensor
