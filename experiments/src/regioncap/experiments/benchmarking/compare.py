"""`regioncap bench compare A B`: what moved from one run of the benchmarks to another by more than noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regioncap.experiments.benchmarking.record import Ratio
from regioncap.experiments.benchmarking.results import BenchResults, CaseResult
from regioncap.experiments.reporting.tables import ReportTable

_LEVEL = 0.95
_FEWEST = 3
"""Rounds of which a median can be resampled; with fewer the single number stands for itself."""
_NOISE_MIB = 4.0
"""What the same code's peak of memory differs by from process to process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure of one case, B over A: below 1 of a time or of memory, above 1 of a ratio to a peer is the better."""

    case: str
    what: str
    """`time`, `memory`, or `time, transformers / ours`."""
    before: float
    after: float
    ratio: float
    low: float
    high: float
    """Interval of the ratio, beyond which noise would have to be larger than was said."""
    better: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchComparison:
    """Two runs side by side."""

    notes: tuple[str, ...]
    """What a reader must know first, such as two different machines."""
    changes: tuple[Change, ...]
    added: tuple[str, ...]
    missing: tuple[str, ...]
    compared: int
    """Cases that both have."""
    noise: float


def compare_results(a: BenchResults, b: BenchResults, *, noise: float = 0.05, seed: int = 0) -> BenchComparison:
    """Everything of `b` that lies outside [1 - noise, 1 + noise] of `a`, with its whole interval.

    Times are compared as ratios of medians, with a bootstrap over the rounds of both (percentiles of 2,000 resamples);
    rounds of one run do not tell how runs differ from each other, which is what `noise` is for. Ratios to peers are
    compared with their quartiles. On another machine, or with another number of threads, times and memory say nothing
    of the code: ratios alone are compared. Nor do those of null stages, which are the measurement's own.
    """
    if not 0 <= noise < 1:
        raise ValueError(f"noise must lie in [0, 1) as a share, got {noise}")
    before, after = a.named(), b.named()
    both = [name for name in after if name in before]
    differences = a.machine.differences(b.machine)
    changes: list[Change] = []
    for name in both:
        old, new = before[name], after[name]
        if not (differences or new.record.null):
            changes += [_time(old, new, seed), *_memory(old, new)]
        changes += _ratios(old, new)
    notes = []
    if differences:
        notes.append(f"another machine: {'; '.join(differences)}. Times do not compare; ratios to peers do.")
    notes += [
        f"{side} was measured on a busy machine (load {run.machine.load:.1f} on {run.machine.cores} cores)"
        for side, run in (("A", a), ("B", b))
        if run.machine.busy
    ]
    return BenchComparison(
        notes=tuple(notes),
        changes=tuple(change for change in changes if _beyond(change, noise)),
        added=tuple(name for name in after if name not in before),
        missing=tuple(name for name in before if name not in after),
        compared=len(both),
        noise=noise,
    )


def comparison_table(comparison: BenchComparison) -> ReportTable:
    """A row for each change."""
    rows = tuple(
        (
            change.case,
            change.what,
            _figure(change.before, change.what),
            _figure(change.after, change.what),
            f"{change.ratio:.2f}",
            f"{change.low:.2f} to {change.high:.2f}",
            "better" if change.better else "worse",
        )
        for change in comparison.changes
    )
    head = ("case", "figure", "A", "B", "B / A", "interval", "")
    said = "Nothing moved" if not rows else f"{len(rows)} figures moved"
    note = f"{said} by more than {100 * comparison.noise:g} % in {comparison.compared} cases that both runs have."
    if comparison.added:
        note += f" Only in B: {'; '.join(comparison.added)}."
    if comparison.missing:
        note += f" Only in A: {'; '.join(comparison.missing)}."
    return ReportTable(title="Benchmarks, B over A", head=head, rows=rows, note=note)


def _time(a: CaseResult, b: CaseResult, seed: int) -> Change:
    ratio = b.record.p50_s / a.record.p50_s
    low, high = _interval(a, b, seed)
    return Change(
        case=b.name, what="time", before=a.record.p50_s, after=b.record.p50_s,
        ratio=ratio, low=min(low, ratio), high=max(high, ratio), better=ratio < 1,
    )  # fmt: skip


def _interval(a: CaseResult, b: CaseResult, seed: int, samples: int = 2000) -> tuple[float, float]:
    """Of the ratio of medians, by resampling the rounds of each."""
    generator = np.random.default_rng(seed)
    ratios = _medians(b, generator, samples) / _medians(a, generator, samples)
    low, high = np.quantile(ratios, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _medians(case: CaseResult, generator: np.random.Generator, samples: int) -> NDArray[np.float64]:
    rounds = np.asarray(case.rounds)
    if len(rounds) < _FEWEST:
        return np.full(samples, case.record.p50_s)
    return np.asarray(np.median(generator.choice(rounds, (samples, len(rounds))), axis=1))


def _memory(a: CaseResult, b: CaseResult) -> list[Change]:
    old, new = a.record.peak_mib, b.record.peak_mib
    if not old or not new or abs(new - old) < _NOISE_MIB:
        return []
    ratio = new / old
    return [
        Change(case=b.name, what="memory", before=old, after=new, ratio=ratio, low=ratio, high=ratio, better=ratio < 1)
    ]


def _ratios(a: CaseResult, b: CaseResult) -> list[Change]:
    """Ratios of the same peer; the interval takes the near ends of the quartiles, then the far ones."""
    before = {(ratio.peer, ratio.quantity): ratio for ratio in a.peers}
    return [_moved(b.name, before[key], ratio) for ratio in b.peers if (key := (ratio.peer, ratio.quantity)) in before]


def _moved(case: str, a: Ratio, b: Ratio) -> Change:
    ratio = b.median / a.median
    return Change(
        case=case, what=f"{b.quantity}, {b.peer} / ours", before=a.median, after=b.median,
        ratio=ratio, low=b.low / a.high, high=b.high / a.low, better=ratio > 1,
    )  # fmt: skip


def _beyond(change: Change, noise: float) -> bool:
    return change.low > 1 + noise or change.high < 1 - noise


def _figure(value: float, what: str) -> str:
    match what:
        case "time":
            return f"{1000 * value:,.3g} ms"
        case "memory":
            return f"{value:,.0f} MiB"
    return f"{value:.2f}"
