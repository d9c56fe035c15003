"""Two runs compared on the page that `regioncap score` draws: table, differences, distributions, captions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regioncap.experiments.comparing.effects import RunComparison
from regioncap.experiments.comparing.pictures import RunPictures
from regioncap.experiments.comparing.runs import Run
from regioncap.experiments.comparing.table import effect_rows, legend, said
from regioncap.experiments.metrics import Scores
from regioncap.experiments.scoring.compare import Comparison, System
from regioncap.experiments.scoring.measured import Measured
from regioncap.experiments.scoring.page import ASSETS, fill_page, page_data

_UNKNOWN = (float("nan"), float("nan"))


def as_systems(comparison: RunComparison, references: Mapping[str, Sequence[str]]) -> Comparison:
    """The runs as two systems of `regioncap score`: scores are means over seeds, captions those of all seeds."""
    effects = comparison.effects
    measured = {}
    for metric, effect in effects.items():
        before, after = comparison.spans[metric] or (_UNKNOWN, _UNKNOWN)
        measured[metric] = (
            Measured(value=effect.base.mean, low=before[0], high=before[1], p=None),
            Measured(value=effect.run.mean, low=after[0], high=after[1], p=effect.p),
        )
    systems = tuple(
        System(
            name=run.name,
            file=run.place,
            captions={image: said(run, image) for image in comparison.images},
            scores=_means(run, comparison),
        )
        for run in (comparison.base, comparison.run)
    )
    return Comparison(
        references={image: references.get(image, ()) for image in comparison.images},
        systems=systems,
        metrics=tuple(effects),
        missing=comparison.missing,
        baseline=0,
        measured=measured,
        parts={},
        per_image={metric: np.array([own.scores.array(metric) for own in systems]) for metric in effects},
        samples=comparison.samples,
        seed=comparison.seed,
    )


def runs_page(
    comparison: RunComparison,
    references: Mapping[str, Sequence[str]],
    pictures: RunPictures,
    *,
    source: str,
    images: int = 200,
) -> str:
    """A page in one file that asks the network for nothing; see `scoring.page.page_html`. `source` names the data."""
    return fill_page(
        runs_data(comparison, references, pictures, source=source, images=images),
        [ASSETS / "page.css"],
        [ASSETS / "drawing.js", ASSETS / "page.js"],
        ASSETS / "page.html",
    )


def runs_data(
    comparison: RunComparison,
    references: Mapping[str, Sequence[str]],
    pictures: RunPictures,
    *,
    source: str,
    images: int = 200,
) -> dict[str, Any]:
    """What the page holds: that of `page_data`, and the table of differences."""
    several = len(comparison.base.seeds) + len(comparison.run.seeds) > 2
    data = page_data(
        as_systems(comparison, references),
        references=source,
        folder=pictures,
        images=images,
        seed=comparison.seed,
    )
    for metric, span in comparison.spans.items():
        if span is None:
            for cell in data["table"][metric]:
                cell["interval"] = ""
    head, *rows = effect_rows(comparison)
    data["changes"] = {"title": "Differences", "head": head, "rows": rows}
    data["legend"] = legend(comparison) + (
        ["Captions of several seeds are shown as one / another; their scores are means over the seeds."]
        if several
        else []
    )
    return data


def _means(run: Run, comparison: RunComparison) -> Scores:
    metrics = tuple(comparison.effects)
    each = {
        metric: np.mean(
            [[own.scores.per_image[name][metric] for name in comparison.images] for own in run.seeds], axis=0
        )
        for metric in metrics
    }
    return Scores(
        corpus={metric: float(np.mean([own.scores.corpus[metric] for own in run.seeds])) for metric in metrics},
        per_image={
            name: {metric: float(each[metric][at]) for metric in metrics} for at, name in enumerate(comparison.images)
        },
        missing=dict(comparison.missing),
        warnings=tuple(dict.fromkeys(line for own in run.seeds for line in own.scores.warnings)),
    )
