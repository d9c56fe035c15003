"""What a run of the benchmarks found, as one file: the machine, and every case with its rounds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from regioncap.experiments.benchmarking.machine import Machine
from regioncap.experiments.benchmarking.record import STAGES, Ratio, StageRecord
from regioncap.experiments.scoring.whole_file import write_whole

RESULTS = "results.json"
END_TO_END = ("captioner", "end to end")
"""Stage and case of the whole pipeline in one call, beside which its steps are added up."""
SUM_OF_STEPS, LIMITS = "sum of its steps", "graph and guidance"
"""Parts of the captioner that are timed in turns with it, as peers are: ratios to these are shares, not races."""
Set = Literal["standard", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One benchmark with its record."""

    file: str
    """As `bench_graph.py`."""
    record: StageRecord
    rounds: tuple[float, ...] = ()
    """Seconds of every round, as measured."""

    @property
    def name(self) -> str:
        """Names the case among all: stage, case and, on a curve, the place on it."""
        point = self.record.point
        place = f", {point.axis} {point.value:g}" if point else ""
        return f"{self.record.stage}: {self.record.case}{place}"

    @property
    def peers(self) -> tuple[Ratio, ...]:
        """Ratios to what does the same work in another way."""
        return tuple(ratio for ratio in self.record.ratios if ratio.peer not in (SUM_OF_STEPS, LIMITS))

    def share(self, part: str) -> Ratio | None:
        """Of a part of the captioner in the whole, timed in turns."""
        return next((ratio for ratio in self.record.ratios if ratio.peer == part), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResults:
    """A finished run."""

    machine: Machine
    started: str
    """Local time, as `2025-11-26 06:35`."""
    set: Set
    seconds: Mapping[str, float]
    """File -> what measuring it took: what the next run's remaining time is guessed from."""
    cases: tuple[CaseResult, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    """File -> why it, or a part of it, has no results."""

    def named(self) -> dict[str, CaseResult]:
        """Cases by name."""
        return {case.name: case for case in self.cases}

    @property
    def pipeline(self) -> tuple[CaseResult, ...]:
        """The steps of the pipeline, in its order."""
        steps = [case for case in self.cases if case.record.pipeline]
        return tuple(sorted(steps, key=lambda case: stage_place(case.record.stage)))

    @property
    def end_to_end(self) -> CaseResult | None:
        """The whole pipeline in one call; None where it was not measured."""
        return next((case for case in self.cases if (case.record.stage, case.record.case) == END_TO_END), None)


def stage_place(stage: str) -> int:
    """Where a stage stands: the pipeline's first, in its order."""
    return STAGES.index(stage) if stage in STAGES else len(STAGES)


def by_stage(cases: Sequence[CaseResult]) -> dict[str, list[CaseResult]]:
    """Stage -> its cases, the pipeline's stages first."""
    stages = sorted(dict.fromkeys(case.record.stage for case in cases), key=stage_place)
    return {stage: [case for case in cases if case.record.stage == stage] for stage in stages}


def cases_of(file: str, text: str) -> tuple[CaseResult, ...]:
    """The cases of a JSON file that pytest-benchmark wrote for `file`; benchmarks without a record are left out.

    Raises ValueError if it is no such file, or of another version.
    """
    try:
        benchmarks = [(bench["extra_info"].get("record"), bench["stats"]) for bench in json.loads(text)["benchmarks"]]
        return tuple(
            CaseResult(file=file, record=StageRecord.from_dict(record), rounds=tuple(stats.get("data", ())))
            for record, stats in benchmarks
            if record is not None
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: no JSON of pytest-benchmark ({type(error).__name__}: {error})") from error


def write_results(results: BenchResults, folder: Path) -> Path:
    """Write `folder/results.json`; returns the file."""
    values = asdict(results) | {
        "cases": [
            {"file": case.file, "record": case.record.to_dict(), "rounds": list(case.rounds)} for case in results.cases
        ]
    }
    file = folder / RESULTS
    write_whole(file, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def read_results(place: Path) -> BenchResults:
    """A file that `regioncap bench run` wrote, or its folder. Raises ValueError saying what is there instead."""
    file = place / RESULTS if place.is_dir() else place
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read ({error.strerror}); want {RESULTS} of `regioncap bench run --out DIR`, or DIR"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON file ({error}); want {RESULTS} of `regioncap bench run`") from error
    try:
        cases = tuple(
            CaseResult(file=own["file"], record=StageRecord.from_dict(own["record"]), rounds=tuple(own["rounds"]))
            for own in values["cases"]
        )
        return BenchResults(**values | {"machine": Machine(**values["machine"]), "cases": cases})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} holds no results of this version ({type(error).__name__}: {error}): measure again with "
            "`regioncap bench run`"
        ) from error
