"""The guidance stage: scene words for the image, detail words for its regions."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.chosen import ChosenWords, weighted_words
from regioncap.guidance.detail import Detail, DetailGuidance
from regioncap.guidance.guidance import Guidance, of_another
from regioncap.guidance.keyword_heads import KeywordQueries
from regioncap.guidance.keyword_training import KeywordShares
from regioncap.guidance.keywords import NO_WORD, Keywords, spread_weights, told_once
from regioncap.guidance.learned_scores import LearnedScores, image_gains
from regioncap.guidance.scene import Scene, SceneGuidance
from regioncap.guidance.steering import Steering, steered, steered_gains

Scale = Literal["scene", "detail"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedWords:
    """Rows of the banks, likeliest first; None for a scale that is not in use."""

    scene: Int[Tensor, "B c"] | None
    detail: Int[Tensor, "B c"] | None
    """Of the whole image."""
    regions: Int[Tensor, "B N c"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticGuidanceConfig:
    """Scene and detail guidance, eqs. 11 and 12."""

    scales: tuple[Scale, ...] = ("scene", "detail")
    """Which words guide: those of the whole image, of its regions, or both."""
    retrieval: Literal["similarity", "learned"] = "similarity"
    """How words are found: by similarity alone, as in the paper, or by keyword heads that training captions taught."""
    words_of: Literal["own", "another"] = "own"
    """`another`: each image is told the words of another one of its batch; a control, to see whether words matter."""
    scene_words: int = 8
    """Scene words per image (M); a smaller bank is taken whole."""
    detail_words: int = 4
    """Detail words per region (m); a smaller bank is taken whole."""
    keywords: int = 12
    """Words of the image over both banks, for prefix tokens of their own (K)."""
    scene_prior: float = 0.75
    """What a word's log frequency weighs beside its standardised nearness to the image; 0 is nearness alone. Learned
    retrieval has frequency in its log-odds."""
    detail_prior: float = 0.5
    """The same for detail words and regions."""
    hubness_momentum: float = 0.05
    """How fast, per training step, the detail words' hubness statistics follow the region queries, in (0, 1]."""

    def __post_init__(self) -> None:
        if not self.scales or len(set(self.scales)) < len(self.scales):
            raise ValueError(
                f"guidance.scales must name scene, detail or both, once each, got {self.scales}; for none use "
                "NoGuidanceConfig"
            )
        for name in ("scene_words", "detail_words", "keywords"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"guidance.{name} must be at least 1, got {getattr(self, name)}; for none use NoGuidanceConfig"
                )
        for name in ("scene_prior", "detail_prior"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"guidance.{name} must be finite and not negative, got {getattr(self, name)}")
        if not 0 < self.hubness_momentum <= 1:
            raise ValueError(f"guidance.hubness_momentum must be in (0, 1], got {self.hubness_momentum}; 0.05 is usual")

    def build(self, dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank) -> "SemanticGuidance":
        """The stage for joint width D = `dim`. Raises ValueError if the scene bank is not D wide."""
        return SemanticGuidance(self, dim, scene_bank, detail_bank)


class SemanticGuidance(nn.Module):
    """Scene words by the whole image, detail words by region (DESIGN 4.3, eqs. 11 and 12).

    Call `calibrate` once with the training images' global vectors before training, and with how frequent words are
    where retrieval is learned. The scene bank must lie in the space of g, so its width is D; the detail bank may be of
    any width.
    """

    once: Bool[Tensor, " W"]

    def __init__(
        self, config: SemanticGuidanceConfig, dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank
    ) -> None:
        super().__init__()
        if scene_bank.width != dim:
            raise ValueError(
                f"scene bank is {scene_bank.width} wide but the global vectors are {dim}; "
                "embed its words with the text tower that belongs to the image tower"
            )
        self.config = config
        self.scene_bank = scene_bank
        self.detail_bank = detail_bank
        learned = config.retrieval == "learned"
        if "scene" in config.scales:
            self.scene = SceneGuidance(scene_bank, count=config.scene_words, prior=config.scene_prior, learned=learned)
        if "detail" in config.scales:
            self.detail = DetailGuidance(
                detail_bank,
                dim,
                count=config.detail_words,
                momentum=config.hubness_momentum,
                prior=config.detail_prior,
                learned=learned,
            )
            if learned:
                self.image_detail = LearnedScores(detail_bank)
        self.register_buffer("once", told_once(self.banks), persistent=False)

    @property
    def banks(self) -> tuple[KeywordBank, ...]:
        """The banks in use."""
        own = {"scene": self.scene_bank, "detail": self.detail_bank}
        return tuple(bank for scale, bank in own.items() if scale in self.config.scales)

    @property
    def keyword_words(self) -> tuple[str, ...]:
        """The words that `Keywords` speaks of, in its order."""
        return tuple(word for bank in self.banks for word in bank.words)

    def calibrate(self, g_train: Float[Tensor, "n D"], shares: KeywordShares | None = None) -> None:
        """Measure, over the training images' global vectors, how near each scene word is to any image.

        `shares` say how frequent words are, and where keyword heads look for them. Raises ValueError without them
        where retrieval is learned.
        """
        if "scene" in self.config.scales:
            self.scene.calibrate(g_train)
        if self.config.retrieval == "similarity":
            return
        if shares is None:
            raise ValueError("learned retrieval adds evidence to how frequent words are: pass their shares in training")
        if "scene" in self.config.scales:
            assert isinstance(self.scene.similarity, LearnedScores)
            self.scene.similarity.set_shares(shares.scene)
            if shares.scene_keys is not None:
                self.scene.similarity.set_keys(shares.scene_keys)
        if "detail" in self.config.scales:
            assert isinstance(self.detail.similarity, LearnedScores)
            self.detail.similarity.set_shares(shares.regions)
            self.image_detail.set_shares(shares.detail)
            if shares.detail_keys is not None:
                self.detail.similarity.set_keys(shares.detail_keys)
                self.image_detail.set_keys(shares.detail_keys)

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        g: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
        queries: KeywordQueries | None = None,
        steering: Steering | None = None,
    ) -> Guidance:
        """Guide by the fused vector f, the global vector g (L2-normalised) and the enhanced regions V.

        `queries` are what keyword heads say, needed by learned retrieval; `steering` edits what is chosen.
        """
        if self.config.retrieval == "learned" and queries is None:
            raise ValueError("guidance.retrieval learned needs what keyword heads say of the images: pass queries")
        scene = self._scene(fused, g, queries, steering)
        detail = self._detail(fused, regions, valid, queries, steering)
        keywords = self._keywords(scene, detail, valid, queries, steering)
        guidance = Guidance(
            scene=scene.summary,
            detail=detail.summary,
            region_detail=detail.regions,
            scene_tokens=scene.tokens,
            scene_words=scene.words,
            scene_weights=scene.weights,
            detail_words=detail.words,
            detail_weights=detail.weights,
            detail_tokens=detail.tokens,
            gate=detail.gate,
            keywords=keywords,
        )
        return guidance if self.config.words_of == "own" else of_another(guidance, valid)

    @torch.no_grad()
    def ranked(
        self,
        g: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
        queries: KeywordQueries | None = None,
        *,
        count: int,
    ) -> RankedWords:
        """The likeliest words of each scale in use, to measure retrieval by; the gate and f have no say in it.

        By similarity, a detail word suits an image as well as it suits the image's best region.
        """
        scene = detail = of_regions = None
        if "scene" in self.config.scales:
            scene = self.scene.nearest(g, None if queries is None else queries.scene, count)
        if "detail" in self.config.scales:
            scores = self.detail.scores(regions, None if queries is None else queries.regions)
            if queries is not None and isinstance(self.detail.similarity, LearnedScores):
                gains = scores - self.detail.similarity.prior
                of_image = image_gains(self.image_detail.gains(queries.detail), gains, valid, queries.mix)
                of_image = of_image + self.image_detail.prior
            else:
                of_image = scores.masked_fill(~valid[..., None], -torch.inf).amax(1)
            of_regions, detail = (own.topk(min(count, own.shape[-1])).indices for own in (scores, of_image))
        return RankedWords(scene=scene, detail=detail, regions=of_regions)

    def _scene(
        self,
        fused: Float[Tensor, "B D"],
        g: Float[Tensor, "B D"],
        queries: KeywordQueries | None,
        steering: Steering | None,
    ) -> Scene:
        if "scene" not in self.config.scales:
            nothing = fused.new_zeros(len(fused), 0)
            none = nothing[..., None].expand(-1, -1, fused.shape[1])
            return Scene(summary=torch.zeros_like(fused), tokens=none, words=nothing.long(), weights=nothing)
        asked = None if queries is None else queries.scene
        edits, strength = (None, 0.0) if steering is None else (steering.scene, steering.strength)
        scene: Scene = self.scene(fused, g, asked, edits, strength)
        return scene

    def _detail(
        self,
        fused: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
        queries: KeywordQueries | None,
        steering: Steering | None,
    ) -> Detail:
        if "detail" not in self.config.scales:
            nothing = fused.new_zeros(*valid.shape, 0)
            return Detail(
                regions=torch.zeros_like(regions),
                summary=torch.zeros_like(fused),
                words=nothing.long(),
                weights=nothing,
                tokens=nothing[..., None].expand(-1, -1, -1, fused.shape[1]),
                gate=fused.new_zeros(len(fused), 0, fused.shape[1]),
            )
        asked = None if queries is None else queries.regions
        edits, strength = None, 0.0
        if steering is not None:
            edits, strength = self.detail.place(steering, regions, valid, asked), steering.strength
        detail: Detail = self.detail(fused, regions, valid, asked, edits, strength)
        return detail

    def _keywords(
        self,
        scene: Scene,
        detail: Detail,
        valid: Bool[Tensor, "B N"],
        queries: KeywordQueries | None,
        steering: Steering | None,
    ) -> Keywords:
        gains, scores = [], []
        for scale, bank in (("scene", self.scene_bank), ("detail", self.detail_bank)):
            if scale not in self.config.scales:
                continue
            if self.config.retrieval == "learned":
                assert queries is not None
                if scale == "scene":
                    assert isinstance(self.scene.similarity, LearnedScores)
                    gain, prior = self.scene.similarity.gains(queries.scene), self.scene.similarity.prior
                else:
                    assert detail.gains is not None
                    own = self.image_detail.gains(queries.detail)
                    gain, prior = image_gains(own, detail.gains, valid, queries.mix), self.image_detail.prior
                score = gain + prior
            else:
                words, weights = (
                    (scene.words, scene.weights)
                    if scale == "scene"
                    else (detail.words.flatten(1), detail.weights.flatten(1))
                )
                gain = spread_weights(words, weights, len(bank))
                prior = torch.zeros_like(gain[0])
                score = gain.masked_fill(gain == 0, NO_WORD)
            if steering is not None:
                edits = steering.scene if scale == "scene" else steering.detail
                gain = steered_gains(gain, prior, edits, steering.strength)
                score = steered(score, edits, steering.strength)
            gains.append(gain)
            scores.append(score)
        return Keywords.of(
            torch.cat(gains, 1), torch.cat(scores, 1).masked_fill(~self.once, NO_WORD), self.config.keywords
        )

    def chosen_words(self, guidance: Guidance) -> list[ChosenWords]:
        """The words behind this stage's `guidance`, image by image."""
        scene, detail = self.scene_bank.words, self.detail_bank.words
        return [
            ChosenWords(
                scene=weighted_words(scene, guidance.scene_words[image], guidance.scene_weights[image]),
                detail=tuple(
                    weighted_words(detail, rows, weights)
                    for rows, weights in zip(guidance.detail_words[image], guidance.detail_weights[image], strict=True)
                ),
            )
            for image in range(len(guidance.scene))
        ]
