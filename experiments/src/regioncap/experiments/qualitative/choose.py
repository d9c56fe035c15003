"""Which images a figure shows: by a rule that is said, not by taste."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from regioncap.experiments.comparing.runs import Run

Order = Literal["random", "gain", "loss", "change", "best", "worst"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Images, and how they were chosen."""

    images: tuple[str, ...]
    says: str
    """For the figure's foot."""


def choose(runs: Sequence[Run], *, order: Order, metric: str, count: int, seed: int) -> Choice:
    """At most `count` images of those that all runs captioned.

    `random` draws them; `gain` and `loss` take where the last run gains or loses most `metric` over the first, and
    `change` takes half of each, gains first; `best` and `worst` go by the last run's own `metric`. Scores are those of
    the captions shown: each run's first seed.
    Raises ValueError if the runs are of different images, or an order that compares is asked of one run.
    """
    names = runs[0].names
    for run in runs[1:]:
        if set(run.names) != set(names):
            raise ValueError(f"{runs[0].place} and {run.place} are of different images; name runs of the same split")
    if order == "random":
        drawn = np.random.default_rng(seed).permutation(len(names))[:count]
        says = f"{min(count, len(names))} of {len(names):,} images drawn at random (seed {seed})"
        return Choice(images=tuple(names[at] for at in drawn), says=says)
    if order in ("best", "worst"):
        scores = np.array([_score(runs[-1], name, metric) for name in names])
        ranked = np.argsort(-scores if order == "best" else scores, kind="stable")[:count]
        says = (
            f"{order.capitalize()} {metric} of {runs[-1].name} among {len(names):,} images: extremes, not typical ones"
        )
        return Choice(images=tuple(names[at] for at in ranked.tolist()), says=says)
    if len(runs) == 1:
        raise ValueError(f"--order {order} compares two runs, and one was named; name another, or take --order random")
    gains = np.array([gain(runs, name, metric) for name in names])
    up, down = np.argsort(-gains, kind="stable"), np.argsort(gains, kind="stable")
    best, worst = count if order == "gain" else (count + 1) // 2, count if order == "loss" else count // 2
    chosen = {"gain": up[:best], "loss": down[:worst], "change": np.concatenate([up[:best], down[:worst]])}[order]
    what = {"gain": "gains", "loss": "losses", "change": "gains, then the largest losses,"}[order]
    return Choice(
        images=tuple(names[at] for at in dict.fromkeys(chosen.tolist())),
        says=f"Largest {metric} {what} of {runs[-1].name} over {runs[0].name} among {len(names):,} images: extremes, "
        "not typical ones",
    )


def gain(runs: Sequence[Run], image: str, metric: str) -> float:
    """How much the last run's shown caption scores above the first run's, as a fraction."""
    return _score(runs[-1], image, metric) - _score(runs[0], image, metric)


def _score(run: Run, image: str, metric: str) -> float:
    return run.seeds[0].scores.per_image[image][metric]
