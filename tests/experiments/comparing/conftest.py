"""Runs of invented scores, in memory: what they are compared by is known."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from regioncap.experiments.comparing.runs import Run, SeedRun
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.metrics import SUMMED, Scores, bleu


@pytest.fixture(scope="session")
def make_run() -> Callable[..., tuple[Run, list[np.ndarray]]]:
    """A run and its BLEU counts."""
    return _make_run


def _make_run(
    name: str,
    *,
    seeds: Sequence[int] = (0,),
    images: int = 40,
    gain: float = 0.0,
    noise: float = 0.05,
    references: tuple[str, ...] = ("a dog runs",),
    metrics: Sequence[str] = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SUM"),
) -> tuple[Run, list[np.ndarray]]:
    """All runs share the images' difficulty; those whose names have the same length are the same."""
    names = [f"{index}.jpg" for index in range(images)]
    generator = np.random.default_rng(len(name))
    hard = {f"{index}.jpg": value for index, value in enumerate(np.random.default_rng(5).uniform(0.2, 0.8, images))}
    counts, runs = [], []
    for seed in seeds:
        own = np.random.default_rng([len(name), seed])
        columns = {
            metric: np.array([hard[image] for image in names]) + gain + own.normal(0, noise, images)
            for metric in metrics
            if not metric.startswith(("BLEU", "SUM"))
        }
        words = generator.integers(6, 12, images)
        guessed = np.stack([words - at for at in range(4)])
        right = np.floor(guessed * own.uniform(0.2, 0.6 + gain, (4, images)))
        counted = np.concatenate([right, guessed, [words, words + 1]]).astype(float)
        for order_of, metric in ((0, "BLEU-1"), (3, "BLEU-4")):
            if metric in metrics:
                columns[metric] = bleu(counted)[order_of]
        corpus = {metric: float(values.mean()) for metric, values in columns.items()}
        of_set = bleu(counted.sum(axis=1))
        corpus |= {m: float(of_set[at]) for at, m in ((0, "BLEU-1"), (3, "BLEU-4")) if m in metrics}
        if "METEOR" in corpus:
            corpus["METEOR"] += 0.02  # of a corpus, METEOR is no mean
        if "SUM" in metrics:
            columns["SUM"] = np.sum([columns[m] for m in SUMMED if m in columns], axis=0)
            corpus["SUM"] = sum(corpus[m] for m in SUMMED if m in corpus)
        runs.append(
            SeedRun(
                seed=seed,
                file=Path(f"/runs/{name}/seed{seed}/scores.json"),
                scores=Scores(
                    corpus={metric: corpus[metric] for metric in metrics},
                    per_image={
                        image: {metric: float(columns[metric][at]) for metric in metrics}
                        for at, image in enumerate(names)
                    },
                    missing={"SPICE": "no jars"},
                ),
                captions={image: f"{name} {seed % 2} says {image}" for image in names},
            )
        )
        counts.append(counted)
    known = {image: CaptionedImage(name=image, path=Path("/photos") / image, captions=references) for image in names}
    run = Run(name=name, place=Path(f"/runs/{name}"), seeds=tuple(runs), images=known if references else {})
    return run, counts
