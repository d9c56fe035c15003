"""`regioncap bench gate`: do ratios to peers hold? Ratios, because both sides are measured in turns on one machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regioncap.experiments.benchmarking.record import Ratio
from regioncap.experiments.benchmarking.results import BenchResults, CaseResult, Set
from regioncap.experiments.scoring.whole_file import write_whole

EXPECTED = "expected_ratios.json"
"""In `benchmarks/`."""
_ROOM = 0.85
"""Of the lower quartile: what a new ratio may lose before the gate says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A peer's time or memory over ours, as it was, and the least that it may be."""

    file: str
    case: str
    """The case's name: `graph: GAT, 2 layers`."""
    peer: str
    quantity: str
    device: str
    set: Set
    """The smallest set that measures it."""
    median: float
    lowest: float
    """The gate fails if the upper quartile of a run falls below."""

    def __post_init__(self) -> None:
        if not self.lowest > 0:
            raise ValueError(f"{self.case}, {self.peer}: lowest must be above 0, got {self.lowest}")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is the ratio of."""
        return self.case, self.peer, self.quantity, self.device

    @property
    def words(self) -> str:
        """For a line: `graph: GAT, PyG GATConv / ours (time)`."""
        return f"{self.case}, {self.peer} / ours ({self.quantity})"


def violations(results: BenchResults, expected: Sequence[Expected]) -> list[str]:
    """A line for every ratio that fell, or that the run should have measured and did not.

    A ratio fell if the upper quartile of its rounds lies below what is allowed: a noisy machine widens the quartiles, a
    slower stage moves them. What another device or the full set alone measures is not asked for.
    """
    measured = _measured(results)
    files = set(results.seconds) | set(results.failed)
    lines = []
    for own in expected:
        ratio = measured.get(own.key)
        if ratio is not None and ratio.high < own.lowest:
            lines.append(
                f"{own.words}: {ratio.median:.2f} (quartiles {ratio.low:.2f} to {ratio.high:.2f}), "
                f"at least {own.lowest:.2f} is wanted; it was {own.median:.2f}"
            )
        asked = own.file in files and own.device == results.machine.device and own.set in (results.set, "standard")
        if ratio is None and asked:
            lines.append(f"{own.words}: {own.file} was run, but this ratio is not there")
    return lines


def unexpected(results: BenchResults, expected: Sequence[Expected]) -> list[str]:
    """Measured ratios that the file does not know."""
    known = {own.key for own in expected}
    return [", ".join(key[:3]) for key in _measured(results) if key not in known]


def updated(results: BenchResults, expected: Sequence[Expected]) -> list[Expected]:
    """The file anew from a run: what was measured takes its median and lowest from it, what was not stays."""
    known = {own.key: own for own in expected}
    for key, (case, ratio) in _with_cases(results).items():
        known[key] = Expected(
            file=case.file,
            case=case.name,
            peer=ratio.peer,
            quantity=ratio.quantity,
            device=case.record.device,
            set=known[key].set if key in known and known[key].set == "standard" else results.set,
            median=round(ratio.median, 2),
            lowest=round(_ROOM * ratio.low, 2) or 0.01,
        )
    return sorted(known.values(), key=lambda own: (own.file, own.case, own.peer, own.quantity, own.device))


def read_expected(file: Path) -> tuple[Expected, ...]:
    """The file's ratios; none where there is no file. Raises ValueError if it is broken."""
    if not file.is_file():
        return ()
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return tuple(Expected(**row) for row in rows)
    except (OSError, json.JSONDecodeError, TypeError) as error:
        raise ValueError(
            f"{file} holds no expected ratios ({error}): mend it, or write it anew with `regioncap bench gate --update`"
        ) from error


def write_expected(expected: Sequence[Expected], file: Path) -> None:
    """A ratio a line, so that a change of one is a change of one line."""
    rows = [json.dumps(asdict(own), ensure_ascii=False) for own in expected]
    write_whole(file, "[\n" + ",\n".join(f"  {row}" for row in rows) + "\n]\n")


def _measured(results: BenchResults) -> dict[tuple[str, str, str, str], Ratio]:
    return {key: ratio for key, (_, ratio) in _with_cases(results).items()}


def _with_cases(results: BenchResults) -> dict[tuple[str, str, str, str], tuple[CaseResult, Ratio]]:
    return {
        (case.name, ratio.peer, ratio.quantity, case.record.device): (case, ratio)
        for case in results.cases
        for ratio in case.peers
    }
