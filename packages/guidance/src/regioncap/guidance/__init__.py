"""Multi-scale semantic guidance: keyword banks, scene words for an image, detail words for its regions."""

from regioncap.guidance.bank import BankError, KeywordBank
from regioncap.guidance.caption_words import caption_words
from regioncap.guidance.chosen import ChosenWords
from regioncap.guidance.detail import Detail, DetailGuidance
from regioncap.guidance.guidance import (
    Guidance,
    NoGuidance,
    NoGuidanceConfig,
    SemanticGuidance,
    SemanticGuidanceConfig,
    gate_statistics,
)
from regioncap.guidance.phrases import MarkedCaption, phrase_words
from regioncap.guidance.scene import Scene, SceneGuidance
from regioncap.guidance.similarity import StandardisedSimilarity
from regioncap.guidance.words import detail_words, scene_words

__all__ = [
    "BankError",
    "ChosenWords",
    "Detail",
    "DetailGuidance",
    "Guidance",
    "KeywordBank",
    "MarkedCaption",
    "NoGuidance",
    "NoGuidanceConfig",
    "Scene",
    "SceneGuidance",
    "SemanticGuidance",
    "SemanticGuidanceConfig",
    "StandardisedSimilarity",
    "caption_words",
    "detail_words",
    "gate_statistics",
    "phrase_words",
    "scene_words",
]
