"""The study's table from its runs: means, spreads, and p of each arm against the one that it is compared with."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from regioncap.experiments.arms import ARMS, BEFORE, UNTRAINED, arm_named
from regioncap.experiments.report import MetricSummary, StudyRow
from regioncap.experiments.statistics import paired_bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRun:
    """What the table takes from one arm with one seed."""

    arm: str
    corpus: Mapping[str, float]
    """Metric -> score of the whole dev split, as a fraction."""
    cider: Mapping[str, float]
    """Dev image -> CIDEr."""
    missing: Mapping[str, str]
    """Metric that could not be computed -> why."""
    parameters: int
    """Trained ones."""
    train_cpu_s: float
    """CPU seconds of training."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Measure beside the metrics -> value of the whole dev split, a fraction or a number of words."""
    missing_measures: Mapping[str, str] = field(default_factory=dict)
    """Measure that is not there -> why."""


Run = TypeVar("Run", bound=ScoredRun)


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by arm, in the order of the table; arms that this version does not know come last."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.arm, []).append(run)
    known = [arm for arm in (*UNTRAINED, *ARMS) if arm in found]
    return {arm: found[arm] for arm in (*known, *(arm for arm in found if arm not in known))}


def study_rows(runs: Sequence[ScoredRun]) -> list[StudyRow]:
    """One row an arm. A metric that a seed lacks is not in the row."""
    arms = by_arm(runs)
    rows = []
    for arm, own in arms.items():
        against = _against(arm, arms)
        names = [name for name in own[0].corpus if all(name in run.corpus for run in own)]
        measured = [name for name in own[0].measures if all(name in run.measures for run in own)]
        rows.append(
            StudyRow(
                arm=arm,
                seeds=len(own),
                metrics={name: MetricSummary.of(run.corpus[name] for run in own) for name in names},
                p=paired_bootstrap([run.cider for run in own], [run.cider for run in arms[against]])
                if against is not None
                else None,
                against=against,
                parameters=own[0].parameters,
                train_cpu_s=sum(run.train_cpu_s for run in own) / len(own),
                missing=own[0].missing,
                measures={name: MetricSummary.of(run.measures[name] for run in own) for name in measured},
                missing_measures=own[0].missing_measures,
            )
        )
    return rows


def _against(arm: str, arms: Collection[str]) -> str | None:
    """The row that an arm's p is taken against: where it went on from a checkpoint, that."""
    known = arm_named(arm)
    if known is None:
        return None
    against = BEFORE if BEFORE in arms else known.against
    return against if against in arms else None
