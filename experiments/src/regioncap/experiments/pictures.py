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


def draw(captioner: Captioner, generated: Generated, paths: Sequence[Path], targets: Sequence[Path]) -> None:
    """Each photograph with its regions, the graph's edges and the chosen words, written to `targets`.

    Regions are numbered from 1 in the order of the encoder, as `--region` takes them. A region's relevance is the
    attention it receives in the graph's last layer; without a graph all are alike.
    """
    chosen = captioner.guidance.chosen_words(generated.guidance)
    regions = generated.regions
    received = regions.attention.float().mean(dim=1).sum(dim=1)  # B N
    for i, (path, target) in enumerate(zip(paths, targets, strict=True)):
        keep = regions.valid[i]
        first = [own[0][0] if own else "" for own in chosen[i].detail] or [""] * len(keep)
        words = [f"{number} {word}".rstrip() for number, word in enumerate(first, start=1)]
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
