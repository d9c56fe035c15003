"""What a captioner saw and chose, as records and as pictures over the photograph."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import Generated
from regioncap.experiments.overlay import draw_overlay


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


def draw(captioner: Captioner, generated: Generated, paths: Sequence[Path], targets: Sequence[Path]) -> None:
    """Each photograph with its regions, the graph's edges and the chosen words, written to `targets`.

    A region's relevance is the attention it receives in the graph's last layer; without a graph all are alike.
    """
    chosen = captioner.guidance.chosen_words(generated.guidance)
    regions = generated.regions
    received = regions.attention.float().mean(dim=1).sum(dim=1)  # B N
    for i, (path, target) in enumerate(zip(paths, targets, strict=True)):
        keep = regions.valid[i]
        words = [own[0][0] if own else "" for own in chosen[i].detail] or [""] * len(keep)
        with Image.open(path) as image:
            draw_overlay(
                image,
                caption=generated.texts[i],
                boxes=_numpy(generated.boxes[i][keep]),
                edges=_numpy(regions.edges[i][keep][:, keep]),
                words=[word for word, real in zip(words, keep.tolist(), strict=True) if real],
                relevance=_numpy(received[i][keep]),
                scene_words=chosen[i].scene,
                path=target,
            )


def _numpy(tensor: Tensor) -> Any:
    return tensor.float().numpy()
