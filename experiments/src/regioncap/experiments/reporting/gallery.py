"""The dev images that a report shows: those on which arms differ most, the best, the worst, and some by chance."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from regioncap.experiments.progress import track
from regioncap.experiments.reporting.finished import FinishedRun
from regioncap.experiments.scoring.gallery import take_in_turn, thumbnail
from regioncap.experiments.study_file import StudyFile
from regioncap.experiments.worker import EVIDENCE


def gallery(runs: Sequence[FinishedRun], study: StudyFile, images: int, seed: int) -> dict[str, Any]:
    """Of at most `images` dev images: picture, references, and what the first seed of every arm says and rests on.

    `runs` are one an arm. Scores are in percent; an image that an arm has not captioned is left out.
    """
    names = [name for name in runs[0].captions if all(name in run.captions for run in runs)]
    metrics = [metric for metric in runs[0].corpus if all(metric in run.corpus for run in runs)]
    chosen = choose(np.array([[run.cider[name] for name in names] for run in runs]), images, seed)
    evidence = [_evidence(run.folder / EVIDENCE, {names[position] for position in chosen}) for run in runs]
    shown = []
    for position in track(chosen, description="read pictures", total=len(chosen)):
        name = names[position]
        picture, why = (
            thumbnail(study.pictures[name]) if name in study.pictures else ("", "the study does not say where")
        )
        shown.append(
            {
                "name": name,
                "picture": picture,
                "why": why,
                "references": list(study.references.get(name, ())),
                "captions": [run.captions[name] for run in runs],
                "scores": {metric: [round(100 * run.per_image[name][metric], 1) for run in runs] for metric in metrics},
                "evidence": [own.get(name) for own in evidence],
            }
        )
    return {"total": len(names), "metrics": metrics, "images": shown}


def choose(scores: np.ndarray[Any, np.dtype[np.float64]], most: int, seed: int) -> list[int]:
    """Positions of images, from CIDEr [arms, images].

    In turn the heads of: where the arms lie furthest apart, each arm's largest gains over the one before it and its
    largest losses, the best and worst by the mean of arms, a random order.
    """
    apart = scores.max(axis=0) - scores.min(axis=0)
    rankings = [np.argsort(-apart, kind="stable").tolist()]
    for before, after in pairwise(scores):
        ascending = np.argsort(after - before, kind="stable").tolist()
        rankings += [ascending[::-1], ascending]
    ascending = np.argsort(scores.mean(axis=0), kind="stable").tolist()
    rankings += [ascending[::-1], ascending, np.random.default_rng(seed).permutation(scores.shape[1]).tolist()]
    return take_in_turn(rankings, most)


def _evidence(file: Path, names: set[str]) -> Mapping[str, Any]:
    """What an arm's captions rest on; nothing where no worker wrote it, as for the retrieval floor."""
    try:
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return {name: record for name, record in stored.items() if name in names}
