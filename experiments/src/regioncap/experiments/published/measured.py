"""What was measured here, as rows for the paper's tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.arms import ARMS, RETRIEVAL
from regioncap.experiments.comparing.runs import Run, read_run
from regioncap.experiments.progress import track
from regioncap.experiments.scores_file import SCORES
from regioncap.experiments.statistics import Spread
from regioncap.experiments.study_file import STUDY, read_study_file

METRIC_OF = {"B-1": "BLEU-1", "B-4": "BLEU-4", "M": "METEOR", "R": "ROUGE-L", "C": "CIDEr", "S": "SPICE"}
"""Column of the paper's tables -> metric."""
PARTS_OF: Mapping[str, tuple[str, ...]] = {
    "baseline": ("Baseline",),
    "+graph": ("Baseline", "GAT-LFE"),
    "+graph+guidance": ("Baseline", "GAT-LFE", "MSG"),
}
"""Arm -> which of the columns of Tables 5 and 6 are ticked."""
_FULL = "+graph+guidance"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """One captioner, in fractions."""

    name: str
    metrics: Mapping[str, Spread]
    """Metric -> its value with every seed; one that a seed lacks is not here."""
    seeds: int
    missing: Mapping[str, str]
    """Metric that could not be computed -> why."""

    @property
    def ablates(self) -> bool:
        """Whether it is a row of the ablation: an arm of the study that is neither peer nor floor."""
        return self.name in ARMS and not _is_peer(self.name)

    @property
    def competes(self) -> bool:
        """Whether it is a row of the comparison: the full captioner, peers, the floor, and whatever is no arm."""
        return self.name == _FULL or not self.ablates

    def column(self, column: str, columns: tuple[str, ...]) -> Spread | None:
        """The values below a column's head; SUM adds up the table's other columns, as Tables 5 and 6 do."""
        if column != "SUM":
            return self.metrics.get(METRIC_OF[column])
        summed = [self.metrics.get(METRIC_OF[name]) for name in columns if name != "SUM"]
        found = [spread.values for spread in summed if spread is not None]
        return Spread(values=tuple(map(sum, zip(*found, strict=True)))) if len(found) == len(summed) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBlock:
    """What was measured on the same images."""

    label: str
    """Which images these are."""
    rows: tuple[MeasuredRow, ...]


def read_measured(place: Path, label: str = "") -> MeasuredBlock:
    """The arms of a study's folder, or the one run that an arm's folder or a file of scores is.

    `label` says what images these are; without it the study's title does. Raises ValueError if nothing is there.
    """
    runs = [read_run(folder) for folder in _arms(place)] or [read_run(place)]
    order = [RETRIEVAL, *ARMS]
    runs.sort(key=lambda run: order.index(run.name) if run.name in order else len(order))
    return MeasuredBlock(label=label or _label(place, runs[0]), rows=tuple(_row(run) for run in runs))


def _arms(place: Path) -> list[Path]:
    """The folders of a study's arms; none for anything else."""
    if not place.is_dir() or (place / SCORES).is_file() or any(place.glob(f"seed*/{SCORES}")):
        return []
    found = sorted(
        {file.parent.parent for file in place.glob(f"*/seed*/{SCORES}")}
        | {file.parent for file in place.glob(f"*/{SCORES}")}
    )
    return list(track(found, description="read arms", total=len(found)))


def _row(run: Run) -> MeasuredRow:
    return MeasuredRow(
        name=run.name,
        metrics={
            metric: Spread(values=tuple(own.scores.corpus[metric] for own in run.seeds)) for metric in run.metrics
        },
        seeds=len(run.seeds),
        missing=run.seeds[0].scores.missing,
    )


def _label(place: Path, run: Run) -> str:
    if (place / STUDY).is_file():
        return read_study_file(place).title.removeprefix("Ablation study on ")
    return f"{place.resolve().stem}: {len(run.names):,} images"


def _is_peer(arm: str) -> bool:
    return "(peer)" in ARMS[arm].says
