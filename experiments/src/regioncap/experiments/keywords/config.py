"""How keyword supervision is set up in an experiment."""

from dataclasses import dataclass, field
from typing import Literal

from regioncap.guidance import KeywordTrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordSupervisionConfig:
    """What teaches the keyword heads of `guidance.retrieval learned`; similarity needs none."""

    regions: Literal["captions", "phrases"] = "captions"
    """What a region learns its words from: `captions`, that any word of its image must be one of some region;
    `phrases`, those of the human box that it matches, from entities.jsonl in data.root."""
    new_images: Literal["whole", "all"] = "whole"
    """Which heads are asked about pictures outside of training: those taught on the `whole` of it, or `all`, those of
    the folds included, whose answers are averaged; the same training, and a checkpoint has `folds` times more of them.
    """
    training: KeywordTrainingConfig = field(default_factory=KeywordTrainingConfig)
