"""Scores on disk, beside the captions that they are of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.metrics import MEASURES, METRICS, Scores, in_print

SCORES = "scores.json"
"""What it is called in the folder of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScores:
    """What a file of scores holds."""

    scores: Scores
    captions: Mapping[str, str]
    """Image -> caption."""
    images: tuple[CaptionedImage, ...]
    """The images with their references, where the file says what they are: a study says it once, in `study.json`."""


def write_scores(
    file: Path, scores: Scores, captions: Mapping[str, str], images: Sequence[CaptionedImage] = ()
) -> None:
    """Corpus and per-image scores as JSON, in percent as the paper prints them, with the captions they are of.

    Measures beside the metrics stand apart, each in its own unit. `images` are written for files that stand alone, so
    that whoever reads them finds references and photographs.
    """
    measures = scores.measures
    content: dict[str, object] = {
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
    if images:
        content["images"] = image_records(images)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.rename(file)


def read_scores(file: Path) -> StoredScores:
    """Read such a file; scores are fractions again. Raises ValueError if it holds something else."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        rows = stored["per_image"]
        metrics = [metric for metric in METRICS if metric in stored["corpus"]]
        return StoredScores(
            scores=Scores(
                corpus={metric: stored["corpus"][metric] / 100 for metric in metrics},
                per_image={name: {metric: row[metric] / 100 for metric in metrics} for name, row in rows.items()},
                missing=stored["missing"],
                warnings=tuple(stored["warnings"]),
            ),
            captions={name: str(row["caption"]) for name, row in rows.items()},
            images=read_image_records(stored.get("images", ())),
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{file} holds no scores of RegionCap ({type(error).__name__}: {error}); want scores.json of a study, or "
            "what `regioncap evaluate --out` wrote. Files of captions alone are compared by `regioncap score`"
        ) from error


def image_records(images: Sequence[CaptionedImage]) -> list[dict[str, object]]:
    """Images as JSON holds them: name, path and captions."""
    return [{"name": image.name, "path": str(image.path.resolve()), "captions": image.captions} for image in images]


def read_image_records(rows: Sequence[Mapping[str, object]]) -> tuple[CaptionedImage, ...]:
    """The images of such records."""
    return tuple(
        CaptionedImage(name=str(row["name"]), path=Path(str(row["path"])), captions=tuple(_texts(row["captions"])))
        for row in rows
    )


def _texts(captions: object) -> list[str]:
    if not isinstance(captions, list):
        raise TypeError(f"captions must be a list, got {type(captions).__name__}")
    return [str(caption) for caption in captions]
