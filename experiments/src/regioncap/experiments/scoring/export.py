"""A comparison for other programs: JSON of everything but single images, CSV of every image."""

import csv
import io
import json
import platform
from importlib.metadata import version
from typing import Any

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
                "warnings": list(system.scores.warnings),
            }
            for row, system in enumerate(comparison.systems)
        ],
        "missing": dict(comparison.missing),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in _VERSIONS},
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def per_image_csv(comparison: Comparison) -> str:
    """One line an image and system: image, system, caption and every metric in percent."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "system", "caption", *comparison.metrics])
    for column, image in enumerate(comparison.references):
        for row, system in enumerate(comparison.systems):
            scores = [round(100 * float(comparison.per_image[m][row, column]), 6) for m in comparison.metrics]
            table.writerow([image, system.name, system.captions[image], *scores])
    return text.getvalue()


def _measured(cell: Measured) -> dict[str, Any]:
    scores = {"value": cell.value, "low": cell.low, "high": cell.high}
    return {name: round(100 * value, 6) for name, value in scores.items()} | {"p": cell.p}
