"""Caption metrics: the five of the paper and SPICE, with pycocoevalcap's numbers and no Java to install."""

from regioncap.experiments.metrics.bleu import bleu
from regioncap.experiments.metrics.java_worker import JavaWorkerError
from regioncap.experiments.metrics.score import (
    BLEUS,
    METRICS,
    SPICE_PARTS,
    SUMMED,
    CaptionScorer,
    MetricsConfig,
    Scores,
    score_captions,
)

__all__ = [
    "BLEUS",
    "METRICS",
    "SPICE_PARTS",
    "SUMMED",
    "CaptionScorer",
    "JavaWorkerError",
    "MetricsConfig",
    "Scores",
    "bleu",
    "score_captions",
]
