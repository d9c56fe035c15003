"""The two keyword banks of a study: words of its training captions, embedded by the CLIP-style text tower."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from regioncap.encoders import ClipText, ImageTextHead, TextEncoder
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.data.entity_phrases import read_marked_captions
from regioncap.experiments.progress import track
from regioncap.guidance import (
    KeywordBank,
    MarkedCaption,
    action_words,
    detail_words,
    most_frequent,
    phrase_words,
    scene_words,
)

EMBEDDED_AT_ONCE = 1024
"""Words between two steps of the progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordBanksConfig:
    """Which words of the training captions enter the banks."""

    source: Literal["captions", "phrases"] = "captions"
    """What tells scene from detail words: `captions`, by part of speech; `phrases`, the marks of entities.jsonl in
    data.root, whose `scene` phrases make the scene bank and all others the detail bank."""
    activities: Literal["lexicon", "verbs"] = "lexicon"
    """Which activities the scene bank holds: those that the lexicon names ("running", "soccer"), or beside them every
    form of a verb that captions have ("jumps", "wearing")."""
    min_count: int = 10
    """Words that fewer captions hold stay out."""
    max_scene: int = 300
    """Most words of the scene bank (places, light, weather, activities), the most frequent first."""
    max_detail: int = 1000
    """Most words of the detail bank (objects, attributes, colours)."""

    def __post_init__(self) -> None:
        if self.source not in ("captions", "phrases"):
            raise ValueError(f"banks.source must be captions or phrases, got {self.source!r}")
        if self.activities not in ("lexicon", "verbs"):
            raise ValueError(f"banks.activities must be lexicon or verbs, got {self.activities!r}")
        for name in ("min_count", "max_scene", "max_detail"):
            if getattr(self, name) < 1:
                raise ValueError(f"banks.{name} must be at least 1, got {getattr(self, name)}")


def marked_captions(
    config: KeywordBanksConfig, root: Path, images: Sequence[CaptionedImage], form: Callable[[str], str] = str
) -> tuple[MarkedCaption, ...]:
    """The training images' captions with marked phrases, if it is phrases that decide, else none.

    `form` is what training makes of a text.
    """
    if config.source != "phrases":
        return ()
    return tuple(
        MarkedCaption(
            text=form(caption.text), scene=tuple(map(form, caption.scene)), detail=tuple(map(form, caption.detail))
        )
        for caption in read_marked_captions(root, {image.name for image in images})
    )


def build_banks(
    config: KeywordBanksConfig,
    captions: Sequence[str],
    marked: Sequence[MarkedCaption],
    text: TextEncoder | ClipText,
    head: ImageTextHead,
) -> tuple[KeywordBank, KeywordBank]:
    """The scene and the detail bank of these training captions, `marked` as `marked_captions` gives them.

    Raises ValueError if no word is left for one of them.
    """
    if config.source == "phrases":
        scene, detail = phrase_words(
            marked, captions, min_count=config.min_count, max_scene=config.max_scene, max_detail=config.max_detail
        )
    else:
        scene = scene_words(captions, min_count=config.min_count, limit=config.max_scene)
        detail = detail_words(captions, min_count=config.min_count, limit=config.max_detail)
    if config.activities == "verbs":
        actions = action_words(captions, min_count=config.min_count, limit=config.max_scene)
        both = {**scene, **{word: count for word, count in actions.items() if word not in detail}}
        scene = most_frequent(both, "scene", min_count=config.min_count, limit=config.max_scene)

    def encode(words: Sequence[str]) -> Float[Tensor, "W D"]:
        parts = [words[start : start + EMBEDDED_AT_ONCE] for start in range(0, len(words), EMBEDDED_AT_ONCE)]
        shown = track(parts, description="keywords", total=len(parts))
        return torch.cat([head.embed_text(text.embed(part)) for part in shown])

    return KeywordBank.embed(scene, encode), KeywordBank.embed(detail, encode)
