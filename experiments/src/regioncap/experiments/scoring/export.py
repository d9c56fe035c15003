"""A comparison for other programs: JSON of everything but single images, CSV of every image."""

import csv
import io
import json
import platform
from importlib.metadata import version
from typing import Any

from regioncap.experiments.metrics import MEASURES, Measures, in_print
from regioncap.experiments.scoring.compare import Comparison
from regioncap.experiments.scoring.measured import LEVEL, Measured

_VERSIONS = ("regioncap", "pycocoevalcap", "numpy")


def comparison_json(comparison: Comparison, references: str) -> str:
    """Scores, intervals and p in percent (p as a fraction), with what they are of. `references` is the file's name."""
    content = {
        "references": references,
        "images": len(comparison.references),
        "unit": "percent",
        "metrics": list(comparison.metrics),
        "against": comparison.systems[comparison.baseline].name,
        "bootstrap": {"samples": comparison.samples, "seed": comparison.seed, "level": LEVEL},
        "systems": [
            {
                "name": system.name,
                "file": str(system.file),
                "scores": {metric: _measured(comparison.measured[metric][row]) for metric in comparison.metrics},
                "spice_parts": {part: _measured(cells[row]) for part, cells in comparison.parts.items()},
                "measures": _measures(system.scores.measures),
                "warnings": [*system.scores.warnings, *system.scores.measures.warnings],
            }
            for row, system in enumerate(comparison.systems)
        ],
        "missing": dict(comparison.missing),
        "missing_measures": dict(comparison.systems[0].scores.measures.missing),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in _VERSIONS},
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def per_image_csv(comparison: Comparison) -> str:
    """One line an image and system: image, system, caption, every metric in percent, and the measures beside them.

    A measure that an image has not, such as CHAIR where the annotations lack the image, is an empty cell.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    measured = [name for name in MEASURES if any(name in s.scores.measures.corpus for s in comparison.systems)]
    table.writerow(["image", "system", "caption", *comparison.metrics, *measured])
    for column, image in enumerate(comparison.references):
        for row, system in enumerate(comparison.systems):
            scores = [round(100 * float(comparison.per_image[m][row, column]), 6) for m in comparison.metrics]
            own = [_of_image(system.scores.measures, name, image) for name in measured]
            table.writerow([image, system.name, system.captions[image], *scores, *own])
    return text.getvalue()


def _measured(cell: Measured) -> dict[str, Any]:
    scores = {"value": cell.value, "low": cell.low, "high": cell.high}
    return {name: round(100 * value, 6) for name, value in scores.items()} | {"p": cell.p}


def _measures(measures: Measures) -> dict[str, Any]:
    return {
        name: {"value": round(in_print(name, value), 6), "unit": MEASURES[name].unit}
        for name, value in measures.corpus.items()
    }


def _of_image(measures: Measures, name: str, image: str) -> float | str:
    value = measures.per_image.get(name, {}).get(image)
    return "" if value is None else round(in_print(name, value), 6)
