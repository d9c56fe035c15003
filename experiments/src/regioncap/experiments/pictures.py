"""What a captioner saw and chose, as records and as pictures over the photograph."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import Generated
from regioncap.experiments.overlay import choose_regions, draw_overlay, strongest_edges
from regioncap.graph import NoGraph


def records(captioner: Captioner, generated: Generated) -> list[dict[str, Any]]:
    """Per image: caption with score, confidence and its tokens' probabilities, other captions, the words it rests on.

    Confidence is the geometric mean of the tokens' probabilities; `scene_words` and the most used `detail_words` come
    with their weights.
    """
    chosen = captioner.guidance.chosen_words(generated.guidance)
    rows = []
    for i, text in enumerate(generated.texts):
        detail: dict[str, float] = {}
        for words in chosen[i].detail:
            for word, weight in words:
                detail[word] = detail.get(word, 0.0) + weight
        top = sorted(detail.items(), key=lambda pair: -pair[1])[:8]
        total = sum(detail.values())
        rows.append(
            {
                "caption": text,
                "score": round(generated.captions.scores[i, 0].item(), 4),
                "confidence": round(generated.captions.confidence[i, 0].item(), 4),
                "tokens": [[token, round(probability, 4)] for token, probability in generated.probabilities[i]],
                "alternatives": [
                    {
                        "caption": other,
                        "score": round(generated.captions.scores[i, n].item(), 4),
                        "confidence": round(generated.captions.confidence[i, n].item(), 4),
                    }
                    for n, other in enumerate(generated.alternatives[i][1:], start=1)
                ],
                "scene_words": {word: round(weight, 4) for word, weight in chosen[i].scene},
                "detail_words": {word: round(weight / total, 4) for word, weight in top},
            }
        )
    return rows


def chosen_record(captioner: Captioner, generated: Generated, image: int) -> dict[str, dict[str, Any]]:
    """What guidance chose for one picture of a batch, heaviest first.

    `scene`: word -> weight; `keywords`: word of the whole picture -> its log-odds, or weight by similarity; `regions`:
    number, from 1, -> word -> weight.
    """
    chosen = captioner.guidance.chosen_words(generated.guidance)[image]
    told, names = generated.guidance.keywords, captioner.guidance.keyword_words
    keywords = [
        (names[row], score)
        for row, score, real in zip(
            told.words[image].tolist(), told.scores[image].tolist(), told.valid[image].tolist(), strict=True
        )
        if real
    ]
    valid = generated.regions.valid[image].tolist()
    return {
        "scene": {word: round(weight, 4) for word, weight in chosen.scene},
        "keywords": {word: round(score, 4) for word, score in keywords},
        "regions": {
            str(number): {word: round(weight, 4) for word, weight in words}
            for number, (words, real) in enumerate(zip(chosen.detail, valid, strict=False), start=1)
            if real
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one caption rests on: real regions alone, no padding."""

    caption: str
    boxes: Float[np.ndarray, "N 4"]
    """x0 y0 x1 y1, fractions of the image."""
    edges: Float[np.ndarray, "N N"]
    words: tuple[str, ...]
    """The first word that each region chose, "" for none."""
    relevance: Float[np.ndarray, " N"]
    """The attention that a region receives in the graph's last layer; without a graph, how heavy its first word is."""
    scene_words: tuple[tuple[str, float], ...]


def evidence_of(captioner: Captioner, generated: Generated, count: int | None = None) -> list[Evidence]:
    """Of each image of a batch, or of its first `count`."""
    chosen = captioner.guidance.chosen_words(generated.guidance)
    regions = generated.regions
    received = regions.attention.float().mean(dim=1).sum(dim=1)  # B N
    without_graph = isinstance(captioner.graph, NoGraph)
    evidence = []
    for i, text in enumerate(generated.texts[:count]):
        keep = regions.valid[i]
        first = [own[0] if own else ("", 0.0) for own in chosen[i].detail] or [("", 0.0)] * len(keep)
        # Cells all have the same score, so that in its order a grid would speak of its top rows, which are sky.
        relevance = torch.tensor([weight for _, weight in first]) if without_graph else received[i]
        evidence.append(
            Evidence(
                caption=text,
                boxes=_numpy(generated.boxes[i][keep]),
                edges=_numpy(regions.edges[i][keep][:, keep]),
                words=tuple(word for (word, _), real in zip(first, keep.tolist(), strict=True) if real),
                relevance=_numpy(relevance[keep]),
                scene_words=tuple(chosen[i].scene),
            )
        )
    return evidence


def evidence_record(evidence: Evidence) -> dict[str, Any]:
    """The part of it that a picture shows, as JSON: the most relevant regions, the strongest edges and their ends.

    `boxes` and `words` are of the `shown` regions first, best first, then of further ends of edges; `edges` hold pairs
    of positions in them, with the weight.
    """
    shown = choose_regions(evidence.relevance, evidence.edges, evidence.words)
    edges = strongest_edges(evidence.edges, shown)
    kept = list(dict.fromkeys([*shown, *(end for pair in edges for end in pair)]))
    at = {region: position for position, region in enumerate(kept)}
    weights = np.maximum(evidence.edges, evidence.edges.T)
    return {
        "shown": len(shown),
        "boxes": [[round(side, 3) for side in evidence.boxes[region].tolist()] for region in kept],
        "words": [evidence.words[region] for region in kept],
        "edges": [[at[i], at[j], round(float(weights[i, j]), 3)] for i, j in edges],
        "scene": [[word, round(weight, 3)] for word, weight in evidence.scene_words],
    }


def draw(captioner: Captioner, generated: Generated, paths: Sequence[Path], targets: Sequence[Path]) -> None:
    """Each photograph with its regions, the graph's edges and the chosen words, written to `targets`.

    Regions are numbered from 1 in the order of the encoder, as `--region` takes them. `paths` are those of the batch's
    first images; there may be fewer than images.
    """
    evidence = evidence_of(captioner, generated, len(paths))
    for path, target, seen in zip(paths, targets, evidence, strict=True):
        with Image.open(path) as image:
            draw_overlay(
                image,
                caption=seen.caption,
                boxes=seen.boxes,
                edges=seen.edges,
                words=[f"{number} {word}".rstrip() for number, word in enumerate(seen.words, start=1)],
                relevance=seen.relevance,
                scene_words=seen.scene_words,
                path=target,
            )


def _numpy(tensor: Tensor) -> Any:
    return tensor.float().numpy()
