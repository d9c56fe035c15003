"""One HTML file that shows a comparison: table, distributions, and the captions on which systems differ."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regioncap.experiments.scoring.compare import Comparison
from regioncap.experiments.scoring.gallery import Pictures, choose_images
from regioncap.experiments.scoring.measured import Measured
from regioncap.experiments.scoring.table import best_systems, legend, p_text, percent, warnings

ASSETS = files("regioncap.experiments.scoring") / "assets"
"""Styles and scripts that pages share."""
_BINS = 40
_SHOWN = 0.99
"""Share of the images inside the axis of a distribution."""


def page_html(
    comparison: Comparison,
    *,
    references: str,
    pictures: Mapping[str, str] | None = None,
    folder: Pictures | None = None,
    images: int = 200,
    seed: int = 0,
) -> str:
    """A page in one file that asks the network for nothing.

    `references` is the file's name, `pictures` maps images to paths inside `folder`, and `images` bounds how many
    images the page holds with captions and picture; distributions are of all. Its scripts and styles are allowed by
    their hash alone, so no caption can become one.
    """
    data = page_data(comparison, references=references, pictures=pictures, folder=folder, images=images, seed=seed)
    return fill_page(data, [ASSETS / "page.css"], [ASSETS / "drawing.js", ASSETS / "page.js"], ASSETS / "page.html")


def fill_page(data: Any, styles: Sequence[Traversable], scripts: Sequence[Traversable], page: Traversable) -> str:
    """A page with `data` in it, in which these styles and scripts alone run."""
    style, script = ("\n".join(file.read_text(encoding="utf-8") for file in files) for files in (styles, scripts))
    text = page.read_text(encoding="utf-8")
    parts = {
        "{{style-hash}}": style_hash(style),
        "{{script-hash}}": style_hash(script),
        "{{style}}": style,
        "{{script}}": script,
        "{{data}}": _inert(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))),
    }
    for mark, part in parts.items():
        text = text.replace(mark, part, 1)
    return text


def page_data(
    comparison: Comparison,
    *,
    references: str,
    pictures: Mapping[str, str] | None = None,
    folder: Pictures | None = None,
    images: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """What the page holds, in percent, as its script reads it."""
    names = list(comparison.references)
    chosen = choose_images(comparison, images, seed)
    return {
        "version": version("regioncap"),
        "references": references,
        "total": len(names),
        "systems": [{"name": system.name, "file": system.file.name} for system in comparison.systems],
        "baseline": comparison.baseline,
        "metrics": list(comparison.metrics),
        "table": _table(comparison.measured),
        "parts": _table(comparison.parts),
        "legend": legend(comparison),
        "warnings": warnings(comparison),
        "histograms": {metric: _histogram(scores) for metric, scores in comparison.per_image.items()},
        "differences": {
            metric: [_difference(scores, row, comparison.baseline) for row in range(len(scores))]
            for metric, scores in comparison.per_image.items()
        },
        "pictures": folder is not None,
        "images": [_image(comparison, names[index], index, pictures or {}, folder) for index in chosen],
    }


def _table(measured: Mapping[str, Sequence[Measured]]) -> dict[str, list[dict[str, Any]]]:
    best = best_systems(measured)
    return {
        metric: [
            {
                "value": percent(cell.value),
                "interval": f"{percent(cell.low)}–{percent(cell.high)}",
                "p": p_text(cell.p),
                "best": row in best[metric],
            }
            for row, cell in enumerate(cells)
        ]
        for metric, cells in measured.items()
    }


def _histogram(scores: NDArray[np.float64]) -> dict[str, Any]:
    """Images by score, a list of _BINS counts a system over the same bins from 0; the last holds the outliers too."""
    top = _reach(scores)
    counts = [np.histogram(np.minimum(row, top), bins=_BINS, range=(0.0, top))[0].tolist() for row in scores]
    return {"from": 0.0, "to": 100 * top, "counts": counts, "means": (100 * scores.mean(axis=1)).tolist()}


def _difference(scores: NDArray[np.float64], row: int, baseline: int) -> dict[str, Any] | None:
    """Images by gain of a system over the baseline; the bins lie evenly around 0, the outermost hold the outliers."""
    if row == baseline:
        return None
    gains = scores[row] - scores[baseline]
    reach = _reach(np.abs(gains))
    return {
        "from": -100 * reach,
        "to": 100 * reach,
        "counts": [np.histogram(gains.clip(-reach, reach), bins=_BINS + 1, range=(-reach, reach))[0].tolist()],
        "means": [100 * float(gains.mean())],
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
    }


def _reach(scores: NDArray[np.float64]) -> float:
    """Where the axis ends: a few captions of five times the usual CIDEr must not squeeze all others together."""
    return float(np.quantile(scores, _SHOWN)) or float(scores.max()) or 1.0


def _image(
    comparison: Comparison, name: str, index: int, pictures: Mapping[str, str], folder: Pictures | None
) -> dict[str, Any]:
    picture, why = folder.thumbnail(pictures.get(name, name)) if folder else ("", "")
    return {
        "name": name,
        "picture": picture,
        "why": why,
        "references": list(comparison.references[name]),
        "captions": [system.captions[name] for system in comparison.systems],
        "scores": {
            metric: [round(100 * float(score), 2) for score in comparison.per_image[metric][:, index]]
            for metric in comparison.metrics
        },
    }


def _inert(text: str) -> str:
    """JSON that cannot end the element that holds it: the same text to whoever parses it."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def style_hash(text: str) -> str:
    """What a page's policy allows a style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
