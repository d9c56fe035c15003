"""What each captioner keeps of its scores, with intervals, as JSON and as tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from regioncap.experiments.robustness.corruptions import CORRUPTIONS
from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.statistics import resampled_means

CLEAN = "clean"
_SAMPLES = 2000
_TAILS = (2.5, 97.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One captioner under one corruption at one level."""

    subject: str
    corruption: str
    level: int
    """0 is clean."""
    strength: float
    scores: Mapping[str, float]
    """Metric -> score of the set, in fractions."""
    cider: Mapping[str, float]
    """Image -> CIDEr."""
    captions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A share of the clean CIDEr, and where it would lie on other images like these, 19 times of 20."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured."""

    measured: tuple[Measured, ...]
    images: Mapping[str, Path]
    """Name -> the clean picture's file."""
    draws: Mapping[tuple[str, str, int], Float[np.ndarray, " samples"]] = field(compare=False, repr=False)
    """Captioner, corruption, level -> mean CIDEr of images drawn with replacement, the same draws for all."""

    @classmethod
    def of_measured(cls, measured: Sequence[Measured], images: Mapping[str, Path]) -> "Results":
        """Draw the images again, once for all that was measured."""
        values = np.array([[row.cider[image] for image in images] for row in measured])
        means = resampled_means(values, samples=_SAMPLES).T
        draws = {(row.subject, row.corruption, row.level): own for row, own in zip(measured, means, strict=True)}
        return cls(measured=tuple(measured), images=images, draws=draws)

    @property
    def subjects(self) -> tuple[str, ...]:
        """In the order they were named; the first is what the others are compared with."""
        return tuple(dict.fromkeys(row.subject for row in self.measured))

    @property
    def corruptions(self) -> tuple[str, ...]:
        """In the order of the figures."""
        return tuple(dict.fromkeys(row.corruption for row in self.measured if row.level))

    def of(self, subject: str, corruption: str) -> tuple[Measured, ...]:
        """From clean to strongest."""
        rows = [row for row in self.measured if row.subject == subject and row.corruption in (CLEAN, corruption)]
        return tuple(sorted(rows, key=lambda row: row.level))

    def clean(self, subject: str) -> Measured:
        """On the pictures as they are."""
        return next(row for row in self.measured if row.subject == subject and not row.level)

    def kept(self, row: Measured) -> Kept:
        """CIDEr / clean CIDEr, images drawn again for both at once."""
        return _interval(self._draws(row), self._share(row))

    def over_levels(self, subject: str, corruption: str) -> Kept:
        """The mean share over the levels."""
        rows = self.of(subject, corruption)[1:]
        return _interval(np.mean([self._draws(row) for row in rows], axis=0), float(np.mean([*map(self._share, rows)])))

    def over_first(self, subject: str, corruption: str) -> Kept:
        """The mean share less that of the first captioner, over the same draws of images."""
        mean, draws = [], []
        for name in (subject, self.subjects[0]):
            rows = self.of(name, corruption)[1:]
            mean.append(float(np.mean([*map(self._share, rows)])))
            draws.append(np.mean([self._draws(row) for row in rows], axis=0))
        return _interval(draws[0] - draws[1], mean[0] - mean[1])

    def _share(self, row: Measured) -> float:
        clean = self.clean(row.subject).scores["CIDEr"]
        return row.scores["CIDEr"] / clean if clean else float("nan")

    def _draws(self, row: Measured) -> Float[np.ndarray, " samples"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Float[np.ndarray, " samples"] = (
                self.draws[row.subject, row.corruption, row.level] / self.draws[row.subject, CLEAN, 0]
            )
        return share

    def write(self, folder: Path) -> None:
        """`robustness.json` with every caption, and `robustness.md`."""
        write_whole(folder / "robustness.json", json.dumps(self._json(), indent=1))
        write_whole(folder / "robustness.md", "\n".join(self._markdown()) + "\n")

    def _json(self) -> dict[str, Any]:
        rows = []
        for row in self.measured:
            kept = self.kept(row)
            rows.append(
                {
                    "captioner": row.subject,
                    "corruption": row.corruption,
                    "level": row.level,
                    "strength": row.strength,
                    "scores": {metric: 100 * score for metric, score in row.scores.items()},
                    "kept": _percent(kept),
                    "per_image": {
                        image: {"caption": row.captions[image], "CIDEr": 100 * row.cider[image]}
                        for image in self.images
                    },
                }
            )
        means = [
            {
                "captioner": subject,
                "corruption": corruption,
                "kept": _percent(self.over_levels(subject, corruption)),
                "over_first": _percent(self.over_first(subject, corruption)),
            }
            for corruption in self.corruptions
            for subject in self.subjects
        ]
        units = {name: CORRUPTIONS[name].unit for name in self.corruptions}
        return {"unit": "percent", "images": len(self.images), "strengths": units, "rows": rows, "means": means}

    def _markdown(self) -> list[str]:
        first, others = self.subjects[0], self.subjects[1:]
        kept = {subject: [_short(self.over_levels(subject, c)) for c in self.corruptions] for subject in self.subjects}
        scores = {
            subject: [f"{100 * float(np.mean([row.scores['CIDEr'] for row in self.of(subject, c)[1:]])):.1f}"
                      for c in self.corruptions]
            for subject in self.subjects
        }  # fmt: skip
        more = {subject: [_short(self.over_first(subject, c), "+") for c in self.corruptions] for subject in others}
        lines = [f"# Robustness: {len(self.images)} dev images", ""]
        lines += ["Means over the levels. In brackets, where 95 % of redrawn sets of images lie.", ""]
        lines += ["CIDEr kept, in percent of the clean one:", "", *self._table(kept, clean=True)]
        lines += ["CIDEr:", "", *self._table(scores, clean=True)]
        if others:
            lines += [f"Percent of its own CIDEr that a captioner keeps, less what {first} keeps of its own:", ""]
            lines += self._table(more, clean=False)
        for corruption in self.corruptions:
            lines += self._levels(corruption)
        return lines

    def _table(self, cells: Mapping[str, list[str]], *, clean: bool) -> list[str]:
        """A row for each captioner, a column for each corruption, and one for the clean CIDEr before them."""
        lines = ["| captioner |" + " clean CIDEr |" * clean + "".join(f" {name} |" for name in self.corruptions)]
        lines += ["| --- |" + " ---: |" * (len(self.corruptions) + clean)]
        for subject, own in cells.items():
            first = [f"{100 * self.clean(subject).scores['CIDEr']:.1f}"] if clean else []
            lines += ["| " + " | ".join([subject, *first, *own]) + " |"]
        return [*lines, ""]

    def _levels(self, corruption: str) -> list[str]:
        rows = self.of(self.subjects[0], corruption)
        metrics = list(rows[0].scores)
        lines = [f"## {corruption}", "", f"Strength: {CORRUPTIONS[corruption].unit}.", ""]
        lines += ["| captioner | metric | clean | " + " | ".join(f"{row.strength:g}" for row in rows[1:]) + " |"]
        lines += ["| --- | --- |" + " ---: |" * len(rows)]
        for subject in self.subjects:
            own = self.of(subject, corruption)
            for metric in metrics:
                cells = [f"{100 * row.scores[metric]:.1f}" for row in own]
                lines += [f"| {subject} | {metric} | " + " | ".join(cells) + " |"]
            cells = [f"{100 * self._share(row):.0f}" for row in own]
            lines += [f"| {subject} | CIDEr kept, % | " + " | ".join(cells) + " |"]
        return [*lines, ""]


def _interval(draws: Float[np.ndarray, " samples"], value: float) -> Kept:
    low, high = np.percentile(draws, _TAILS)
    return Kept(share=value, low=float(low), high=float(high))


def _percent(kept: Kept) -> dict[str, float | None]:
    """JSON has no NaN: a captioner that scores nothing on clean pictures keeps no share of it."""
    values = {"share": kept.share, "low": kept.low, "high": kept.high}
    return {name: 100 * value if np.isfinite(value) else None for name, value in values.items()}


def _short(kept: Kept, sign: str = "") -> str:
    if not np.isfinite(kept.share):
        return "–"
    return f"{100 * kept.share:{sign}.0f} ({100 * kept.low:{sign}.0f} to {100 * kept.high:{sign}.0f})"
