"""Caption metrics: the five of the paper and SPICE, with pycocoevalcap's numbers and no Java to install."""

from regioncap.experiments.metrics.java_worker import JavaWorkerError
from regioncap.experiments.metrics.quick import QuickCider
from regioncap.experiments.metrics.score import METRICS, CaptionScorer, MetricsConfig, Scores

__all__ = ["METRICS", "CaptionScorer", "JavaWorkerError", "MetricsConfig", "QuickCider", "Scores"]
