"""Multi-scale semantic guidance: keyword banks, scene words for an image, detail words for its regions."""

from regioncap.guidance.actions import action_words
from regioncap.guidance.bank import BankError, KeywordBank
from regioncap.guidance.caption_words import caption_words, most_frequent
from regioncap.guidance.chosen import ChosenWords
from regioncap.guidance.detail import Detail, DetailGuidance
from regioncap.guidance.guidance import Guidance, gate_statistics
from regioncap.guidance.keyword_committee import KeywordCommittee
from regioncap.guidance.keyword_heads import KeywordHeads, KeywordHeadsConfig, KeywordInputs, KeywordQueries
from regioncap.guidance.keyword_targets import KeywordTargets, RegionShares, SparseShares
from regioncap.guidance.keyword_training import (
    KeywordShares,
    KeywordTeacher,
    KeywordTrainingConfig,
    fold_of,
    held_out_queries,
)
from regioncap.guidance.keywords import Keywords
from regioncap.guidance.learned_scores import LearnedScores
from regioncap.guidance.no_guidance import NoGuidance, NoGuidanceConfig
from regioncap.guidance.no_keyword_heads import NoKeywordHeads
from regioncap.guidance.phrases import MarkedCaption, phrase_words
from regioncap.guidance.scene import Scene, SceneGuidance
from regioncap.guidance.semantic import SemanticGuidance, SemanticGuidanceConfig
from regioncap.guidance.similarity import StandardisedSimilarity
from regioncap.guidance.steering import Steering
from regioncap.guidance.words import detail_words, scene_words

__all__ = [
    "BankError",
    "ChosenWords",
    "Detail",
    "DetailGuidance",
    "Guidance",
    "KeywordBank",
    "KeywordCommittee",
    "KeywordHeads",
    "KeywordHeadsConfig",
    "KeywordInputs",
    "KeywordQueries",
    "KeywordShares",
    "KeywordTargets",
    "KeywordTeacher",
    "KeywordTrainingConfig",
    "Keywords",
    "LearnedScores",
    "MarkedCaption",
    "NoGuidance",
    "NoGuidanceConfig",
    "NoKeywordHeads",
    "RegionShares",
    "Scene",
    "SceneGuidance",
    "SemanticGuidance",
    "SemanticGuidanceConfig",
    "SparseShares",
    "StandardisedSimilarity",
    "Steering",
    "action_words",
    "caption_words",
    "detail_words",
    "fold_of",
    "gate_statistics",
    "held_out_queries",
    "most_frequent",
    "phrase_words",
    "scene_words",
]
