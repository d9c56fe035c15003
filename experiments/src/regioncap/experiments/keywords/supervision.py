"""Keyword heads of a study: fitted once on its training images, cross-fitted, kept with what its arms share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from regioncap.encoders.store import FeatureStore
from regioncap.experiments.data.boxed_phrases import BoxedPhrases
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.keywords.inputs import inputs_of
from regioncap.experiments.keywords.targets import caption_shares, region_shares
from regioncap.experiments.progress import track
from regioncap.guidance import (
    KeywordBank,
    KeywordCommittee,
    KeywordHeads,
    KeywordInputs,
    KeywordQueries,
    KeywordShares,
    KeywordTargets,
    KeywordTeacher,
    KeywordTrainingConfig,
    fold_of,
    held_out_queries,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeywordSupervision:
    """What keyword heads know."""

    heads: KeywordHeads
    """Fitted on all of train: for any other image."""
    folds: tuple[KeywordHeads, ...]
    """Heads that did not see the training images of their fold."""
    shares: KeywordShares
    """How frequent words are in training."""

    @property
    def committee(self) -> KeywordCommittee:
        """All heads as one, for images outside of training."""
        return KeywordCommittee([self.heads, *self.folds])

    def held_out(self, rows: Int[Tensor, "B"], images: KeywordInputs) -> KeywordQueries:
        """What heads that never saw the training images in `rows` say of them, in training's half precision or not."""
        with torch.no_grad(), torch.autocast(images.pooled.device.type, enabled=False):
            return held_out_queries(self.folds, fold_of(rows, len(self.folds)), images)


def fit_keyword_heads(
    config: KeywordTrainingConfig,
    train: FeatureStore,
    images: Sequence[CaptionedImage],
    phrases: Mapping[str, Sequence[BoxedPhrases]] | None,
    scene_bank: KeywordBank,
    detail_bank: KeywordBank,
) -> KeywordSupervision:
    """Teach the heads of every fold and those for new images. `phrases` of training images' boxes, if there are any.

    Raises ValueError where there are fewer images than it takes.
    """
    targets = KeywordTargets(
        scene=caption_shares([image.captions for image in images], scene_bank),
        detail=caption_shares([image.captions for image in images], detail_bank),
        regions=None if phrases is None else region_shares(train, phrases, detail_bank),
    )
    teacher = KeywordTeacher(config, lambda rows: inputs_of(train.images(rows)), targets, (scene_bank, detail_bank))
    if len(images) <= config.folds:
        raise ValueError(
            f"keywords.folds is {config.folds}, but there are {len(images)} training images: every fold must leave "
            "some to learn from"
        )
    whole, *folds = track(teacher.teach_all(), description="teach keyword heads", total=config.folds + 1)
    return KeywordSupervision(heads=whole, folds=tuple(folds), shares=teacher.shares)


def save_supervision(supervision: KeywordSupervision, folder: Path) -> None:
    """Write heads and shares."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, heads in enumerate((*supervision.folds, supervision.heads)):
        save_file(heads.state_dict(), folder / f"heads{number}.safetensors")
    shares = supervision.shares
    tensors = {field.name: getattr(shares, field.name) for field in fields(shares)}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "shares.safetensors")


def load_supervision(
    folder: Path,
    config: KeywordTrainingConfig,
    *,
    pooled_dim: int,
    region_dim: int,
    scene_bank: KeywordBank,
    detail_bank: KeywordBank,
) -> KeywordSupervision:
    """The inverse of `save_supervision`."""
    taught = []
    for number in range(config.folds + 1):
        heads = config.heads.build(pooled_dim, region_dim, scene_bank, detail_bank)
        heads.load_state_dict(load_file(folder / f"heads{number}.safetensors"))
        taught.append(heads.eval().requires_grad_(False))
    shares = load_file(folder / "shares.safetensors")
    return KeywordSupervision(heads=taught[-1], folds=tuple(taught[:-1]), shares=KeywordShares(**shares))
