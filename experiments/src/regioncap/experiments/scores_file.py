"""Scores on disk, beside the captions that they are of."""

import json
from collections.abc import Mapping
from pathlib import Path

from regioncap.experiments.metrics import MEASURES, Scores, in_print

SCORES = "scores.json"
"""What it is called in the folder of a run."""


def write_scores(file: Path, scores: Scores, captions: Mapping[str, str]) -> None:
    """Corpus and per-image scores as JSON, in percent as the paper prints them, with the captions they are of.

    Measures beside the metrics stand apart, each in its own unit.
    """
    measures = scores.measures
    content = {
        "unit": "percent",
        "corpus": {metric: 100 * score for metric, score in scores.corpus.items()},
        "missing": dict(scores.missing),
        "warnings": [*scores.warnings, *measures.warnings],
        "per_image": {
            name: {"caption": captions[name]} | {metric: 100 * score for metric, score in per_image.items()}
            for name, per_image in scores.per_image.items()
        },
        "measures": {
            measure: {
                "unit": MEASURES[measure].unit,
                "value": in_print(measure, value),
                "per_image": {image: in_print(measure, own) for image, own in measures.per_image[measure].items()},
            }
            for measure, value in measures.corpus.items()
        },
        "missing_measures": dict(measures.missing),
    }
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.rename(file)
