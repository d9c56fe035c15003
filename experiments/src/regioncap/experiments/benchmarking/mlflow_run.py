"""A run of the benchmarks as a run of MLflow: the machine as parameters, figures as metrics, files as artifacts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.benchmarking.machine import Machine
from regioncap.experiments.benchmarking.results import BenchResults, CaseResult, Set
from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tracking.notes import command_line, note, table_of
from regioncap.experiments.unreachable import UnreachableError

EXPERIMENT = "benchmarks"
_QUANTITIES = ("p50_s", "p95_s", "images_per_s", "peak_mib", "flops", "peak_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What the run shows as its parameters."""

    machine: Machine
    set: Set


def log_results(results: BenchResults, out: Path, files: Sequence[Path]) -> str:
    """Log into the store of the studies beside `out`, or that of MLFLOW_TRACKING_URI; returns how to look at it.

    Nothing is lost where the store is away: `files` lie on disk, and the line returned says so.
    """
    says = f"{results.set} set of {results.started}, {len(results.cases)} cases: {results.machine.describe()}."
    steps = [[case.name, f"{1000 * case.record.p50_s:,.1f}"] for case in results.pipeline]
    table = table_of(("step of the pipeline", "p50, ms a batch"), steps) if steps else ()
    name = f"{results.started} {results.machine.commit[:8]}"
    try:
        with StudyTracker(out, EXPERIMENT, note("Latency and memory of every stage.")) as tracker:
            run = tracker.run(name, _Measured(machine=results.machine, set=results.set), set=results.set)
            tracker.describe(run, note(says, command=command_line(), table=table))
            tracker.scores(run, metrics_of(results.cases))
            for file in files:
                tracker.file(run, file)
            tracker.end(run, "FAILED" if results.failed else "FINISHED")
            return f"MLflow run {tracker.run_id(run)}; dashboard: {tracker.dashboard}"
    except UnreachableError as error:
        return f"not logged to MLflow: {error}"


def metrics_of(cases: Sequence[CaseResult]) -> dict[str, float]:
    """Metric -> value, as `graph/GAT, 2 layers/p50_s`; MLflow's names are made of these by the tracker."""
    values: dict[str, float] = {}
    for case in cases:
        stage, name = case.record.stage, case.name.partition(": ")[2].replace("/", " per ")
        for quantity in _QUANTITIES:
            if (value := getattr(case.record, quantity)) is not None:
                values[f"{stage}/{name}/{quantity}"] = float(value)
        for ratio in case.record.ratios:
            values[f"{stage}/{name}/{ratio.quantity} of {ratio.peer.replace('/', ' per ')} over ours"] = ratio.median
    return values
