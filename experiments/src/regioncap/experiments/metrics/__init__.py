"""Caption metrics: the five of the paper and SPICE, with pycocoevalcap's numbers and no Java to install; and beside
them what they do not see: CLIPScore, CHAIR, and how varied captions are."""

from regioncap.experiments.metrics.bleu import bleu
from regioncap.experiments.metrics.java_worker import JavaWorkerError
from regioncap.experiments.metrics.measures import MEASURES, Measures, in_print, measure_text
from regioncap.experiments.metrics.measuring import MeasuresConfig, Measuring
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
    "MEASURES",
    "METRICS",
    "SPICE_PARTS",
    "SUMMED",
    "CaptionScorer",
    "JavaWorkerError",
    "Measures",
    "MeasuresConfig",
    "Measuring",
    "MetricsConfig",
    "Scores",
    "bleu",
    "in_print",
    "measure_text",
    "score_captions",
]
