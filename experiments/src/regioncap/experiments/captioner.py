"""The four packages assembled: image features -> condition -> caption. Data moves left to right only."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.decoder import (
    FusedPrefix,
    Gpt2Decoder,
    KeywordPieces,
    MappedPrefix,
    NoWordBias,
    Prefix,
    TokenPrefix,
    TokenSpread,
)
from regioncap.encoders import ImageFeatures, ImageTextHead
from regioncap.experiments.adapter import AdaptedRegions, Adapter, NoRegions
from regioncap.experiments.keywords.inputs import inputs_of
from regioncap.graph import EnhancedRegions, Fusion, GlobalOnly, NoGraph, RegionGraph
from regioncap.guidance import (
    Guidance,
    KeywordCommittee,
    KeywordHeads,
    KeywordInputs,
    KeywordQueries,
    NoGuidance,
    NoKeywordHeads,
    SemanticGuidance,
    Steering,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Heads that never saw some training images: they stand in for the captioner's own."""

    offset: Float[Tensor, "B D"]
    """Joins the CLIP-style head's embedding (`encoders.cross_fit`)."""
    keyword_heads: Callable[[KeywordInputs], KeywordQueries] | None
    """None where none were taught. Asked by captioners with keyword heads of their own alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the decoder is told of each image, with every step that led there for losses and pictures."""

    g: Float[Tensor, "B D"]
    """Global image embedding, unit length (eq. 1)."""
    adapted: AdaptedRegions
    regions: EnhancedRegions
    fused: Float[Tensor, "B D"]
    guidance: Guidance
    prefix: Prefix


class Captioner(nn.Module):
    """adapter -> graph -> fusion -> guidance -> prefix -> GPT-2, over stored image features.

    The CLIP-style head is part of it because phase 2 trains its last layers; the encoders below are not. The keyword
    heads are taught before and stand still; `spread` and `pieces` bring their words to the decoder's vocabulary.
    B images, C captions each, T tokens, D joint width. No caption reaches `condition`: it takes images alone.
    """

    def __init__(
        self,
        *,
        clip_head: ImageTextHead,
        text_projection: nn.Linear,
        adapter: Adapter | NoRegions,
        graph: RegionGraph | NoGraph,
        fusion: Fusion | GlobalOnly,
        keyword_heads: KeywordHeads | KeywordCommittee | NoKeywordHeads,
        guidance: SemanticGuidance | NoGuidance,
        spread: TokenSpread,
        pieces: KeywordPieces,
        prefix: FusedPrefix | TokenPrefix | MappedPrefix,
        decoder: Gpt2Decoder,
    ) -> None:
        super().__init__()
        self.dim = clip_head.dim
        self.clip_head = clip_head
        self.text_projection = text_projection  # BERT -> D of eq. 6, for the alignment loss alone
        self.adapter = adapter
        self.graph = graph
        self.fusion = fusion
        self.keyword_heads = keyword_heads
        self.guidance = guidance
        self.spread = spread
        self.pieces = pieces
        self.prefix = prefix
        self.decoder = decoder

    def train(self, mode: bool = True) -> "Captioner":
        """Training mode, but for the heads: dropout on g would undo its cross-fit offset, and keyword heads stand."""
        super().train(mode)
        self.clip_head.eval()
        self.keyword_heads.eval()
        return self

    def embed_image(
        self, pooled: Float[Tensor, "B G"], offset: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B D"]:
        """g (eq. 1). `offset` is the cross-fit correction of training images; any other has none."""
        embedded = self.clip_head.embed_image(pooled).float()
        return F.normalize(embedded if offset is None else embedded + offset, dim=-1)

    def condition(
        self, images: ImageFeatures, held_out: HeldOut | None = None, steering: Steering | None = None
    ) -> Condition:
        """Images -> prefix. `held_out` is for training images alone; `steering` edits the words of guidance."""
        g = self.embed_image(images.pooled, None if held_out is None else held_out.offset)
        queries = None
        if not isinstance(self.keyword_heads, NoKeywordHeads):
            heads = self.keyword_heads if held_out is None else held_out.keyword_heads
            queries = None if heads is None else heads(inputs_of(images))
        adapted = self.adapter(images.regions)
        regions = self.graph(adapted.features, adapted.raw, adapted.boxes, adapted.valid)
        # A unit vector of width D has entries of size 1/sqrt(D): scaled to meet the regions at their size.
        fused = self.fusion(g * math.sqrt(self.dim), regions.features, regions.valid).float()
        guidance = self.guidance(fused, g, regions.features, regions.valid, queries, steering)
        words = guidance.keywords
        prefix = self.prefix(
            fused=fused,
            scene=guidance.scene,
            detail=guidance.detail,
            regions=regions.features,
            region_valid=regions.valid,
            region_detail=guidance.region_detail,
            scene_tokens=guidance.scene_tokens,
            region_boxes=adapted.boxes,
            detail_tokens=guidance.detail_tokens,
            detail_words=guidance.detail_words,
            detail_weights=guidance.detail_weights,
            keyword_embeddings=self.pieces(words.words, self.decoder.model.transformer.wte.weight),
            keyword_scores=words.scores,
            keyword_valid=words.valid & self.pieces.known[words.words],
        )
        if words.gains.shape[1] and not isinstance(self.decoder.word_bias, NoWordBias):
            prefix = replace(prefix, bias=self.spread(words.gains))
        return Condition(g=g, adapted=adapted, regions=regions, fused=fused, guidance=guidance, prefix=prefix)

    def embed_text(self, text: Float[Tensor, "B C T"]) -> Float[Tensor, "B C D"]:
        """Captions in the joint space (eq. 6), for the alignment loss."""
        projected: Tensor = self.text_projection(text)
        return projected

    def generation_loss(
        self, prefix: Prefix, tokens: Int[Tensor, "B C T"], mask: Bool[Tensor, "B C T"]
    ) -> Float[Tensor, ""]:
        """Token cross-entropy (eq. 16), mean over real tokens."""
        return self.decoder.loss(prefix.embeddings, prefix.valid, tokens, mask, prefix.added, prefix.bias)
