"""Caption metrics: the five of the paper and SPICE, with pycocoevalcap's numbers and no Java to install."""

from regioncap.experiments.metrics.java_worker import JavaWorkerError
from regioncap.experiments.metrics.score import (
    METRICS,
    SPICE_PARTS,
    CaptionScorer,
    MetricsConfig,
    Scores,
    score_captions,
)

__all__ = ["METRICS", "SPICE_PARTS", "CaptionScorer", "JavaWorkerError", "MetricsConfig", "Scores", "score_captions"]
