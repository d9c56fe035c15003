"""The guidance stage: scene words for the image, detail words for its regions, or none of both."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regioncap.guidance.bank import KeywordBank
from regioncap.guidance.chosen import ChosenWords, weighted_words
from regioncap.guidance.detail import DetailGuidance
from regioncap.guidance.scene import SceneGuidance

CLOSED_GATE = 0.05
"""A gate below this lets through next to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guidance:
    """What guidance says of each image, and the words it says it with.

    B images, N region slots, M scene words, m detail words a region, D joint width. `NoGuidance` has N = M = m = 0.
    Everything of a padded region is zero.
    """

    scene: Float[Tensor, "B D"]
    """W_global of eq. 11."""
    detail: Float[Tensor, "B D"]
    """Mean of W_local of eq. 12 over the valid regions."""
    region_detail: Float[Tensor, "B N D"]
    """W_local per region; the L1 of eq. 18 is taken of it."""
    scene_tokens: Float[Tensor, "B M D"]
    """The scene words' own vectors, weighted so that equal weights leave them unchanged."""
    scene_words: Int[Tensor, "B M"]
    """Rows of the scene bank, best first."""
    scene_weights: Float[Tensor, "B M"]
    detail_words: Int[Tensor, "B N m"]
    """Rows of the detail bank, best first."""
    detail_weights: Float[Tensor, "B N m"]
    detail_tokens: Float[Tensor, "B N m D"]
    """The detail words' own vectors as weighted and gated: their mean over m is `region_detail`."""
    gate: Float[Tensor, "B N D"]
    """The sigmoid of eq. 12, in (0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticGuidanceConfig:
    """Scene and detail guidance, eqs. 11 and 12."""

    scene_words: int = 8
    """Scene words per image (M); a smaller bank is taken whole."""
    detail_words: int = 4
    """Detail words per region (m); a smaller bank is taken whole."""
    scene_prior: float = 0.75
    """What a word's log frequency weighs beside its standardised nearness to the image; 0 is nearness alone."""
    detail_prior: float = 0.5
    """The same for detail words and regions."""
    hubness_momentum: float = 0.05
    """How fast, per training step, the detail words' hubness statistics follow the region queries, in (0, 1]."""

    def __post_init__(self) -> None:
        for name in ("scene_words", "detail_words"):
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

    Call `calibrate` once with the training images' global vectors before training. The scene bank must lie in the space
    of g, so its width is D; the detail bank may be of any width.
    """

    def __init__(
        self, config: SemanticGuidanceConfig, dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank
    ) -> None:
        super().__init__()
        if scene_bank.width != dim:
            raise ValueError(
                f"scene bank is {scene_bank.width} wide but the global vectors are {dim}; "
                "embed its words with the text tower that belongs to the image tower"
            )
        self.scene_bank = scene_bank
        self.detail_bank = detail_bank
        self.scene = SceneGuidance(scene_bank, count=config.scene_words, prior=config.scene_prior)
        self.detail = DetailGuidance(
            detail_bank, dim, count=config.detail_words, momentum=config.hubness_momentum, prior=config.detail_prior
        )

    def calibrate(self, g_train: Float[Tensor, "n D"]) -> None:
        """Measure, over the training images' global vectors, how near each scene word is to any image."""
        self.scene.calibrate(g_train)

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        g: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
    ) -> Guidance:
        """Guide by the fused vector f, the global vector g (L2-normalised) and the enhanced regions V."""
        scene = self.scene(fused, g)
        detail = self.detail(fused, regions, valid)
        return Guidance(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGuidanceConfig:
    """No words reach the decoder: the null stage."""

    def build(self, dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank) -> "NoGuidance":
        """The stage; it takes the banks like its peer and looks at neither."""
        return NoGuidance()


class NoGuidance(nn.Module):
    """Parameter-free: vectors of zeros, and zero words, regions and gates."""

    def calibrate(self, g_train: Float[Tensor, "n D"]) -> None:
        """There is nothing to calibrate."""

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        g: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        valid: Bool[Tensor, "B N"],
    ) -> Guidance:
        """Nothing to say, in the types and widths of `SemanticGuidance`."""
        batch, dim = fused.shape
        no_words = torch.zeros(batch, 0, 0, dtype=torch.long, device=fused.device)
        return Guidance(
            scene=torch.zeros_like(fused),
            detail=torch.zeros_like(fused),
            region_detail=fused.new_zeros(batch, 0, dim),
            scene_tokens=fused.new_zeros(batch, 0, dim),
            scene_words=no_words.flatten(1),
            scene_weights=fused.new_zeros(batch, 0),
            detail_words=no_words,
            detail_weights=fused.new_zeros(batch, 0, 0),
            detail_tokens=fused.new_zeros(batch, 0, 0, dim),
            gate=fused.new_zeros(batch, 0, dim),
        )

    def chosen_words(self, guidance: Guidance) -> list[ChosenWords]:
        """No words for any image."""
        return [ChosenWords(scene=(), detail=()) for _ in guidance.scene]


def gate_statistics(guidance: Guidance, valid: Bool[Tensor, "B N"]) -> dict[str, float]:
    """What to log of guidance each epoch, to see that it lives.

    `gate_mean` and `gate_closed` (share below 0.05) over the valid regions' gates; `scene_entropy` in nats, mean over
    images, at most log M. A figure over nothing (no valid region, `NoGuidance`) is left out.
    """
    statistics: dict[str, float] = {}
    if guidance.gate.shape[1] and bool(valid.any()):
        gates = guidance.gate.detach()[valid].float()
        statistics["gate_mean"] = gates.mean().item()
        statistics["gate_closed"] = (gates < CLOSED_GATE).float().mean().item()
    if guidance.scene_weights.numel():
        statistics["scene_entropy"] = torch.special.entr(guidance.scene_weights.detach().float()).sum(-1).mean().item()
    return statistics
