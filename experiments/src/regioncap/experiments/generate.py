"""Captions for encoded images, in batches, with what the captioner saw and chose."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regioncap.decoder import Captions, CaptionTokenizer, SearchConfig
from regioncap.encoders import ImageFeatures
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.progress import track
from regioncap.graph import EnhancedRegions
from regioncap.guidance import Guidance


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One batch: the captions, and what they were decoded from."""

    texts: tuple[str, ...]
    captions: Captions
    guidance: Guidance
    regions: EnhancedRegions
    boxes: Float[Tensor, "B N 4"]


def generate(
    captioner: Captioner, images: ImageFeatures, tokenizer: CaptionTokenizer, search: SearchConfig
) -> Generated:
    """Caption one batch of images that no head was fitted on, or whose cross-fit offset is not wanted."""
    was_training = captioner.training
    captioner.eval()
    with torch.inference_mode():
        condition = captioner.condition(images, torch.zeros(len(images.pooled), captioner.dim))
        captions = captioner.caption(condition, search, tokenizer.unspoken)
    captioner.train(was_training)
    texts = tuple(tokenizer.decode(row) for row in captions.tokens)
    return Generated(
        texts=texts,
        captions=captions,
        guidance=condition.guidance,
        regions=condition.regions,
        boxes=condition.adapted.boxes,
    )


def generate_over(
    captioner: Captioner,
    store: FeatureStore,
    tokenizer: CaptionTokenizer,
    search: SearchConfig,
    *,
    rows: Int[Tensor, "n"] | None = None,
    batch_size: int = 50,
    describe: str | None = None,
) -> Iterator[Generated]:
    """Caption a store's images in order (those of `rows` if given); `describe` names a progress bar."""
    rows = torch.arange(len(store)) if rows is None else rows
    parts = rows.split(batch_size)
    for part in parts if describe is None else track(parts, description=describe, total=len(parts)):
        yield generate(captioner, store.images(part), tokenizer, search)
