"""What a call of `StudyTracker.curve` costs its caller: put into the outbox, against logged straight into MLflow.

    python benchmarks/bench_tracking.py

Both in turn in one run, into one healthy store (SQLite, the default). `straight` is what `curve` did before there was
an outbox: one `log_batch` a call, for which the caller waits. The calls come at the pace of training steps.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric

from regioncap.experiments.progress import track
from regioncap.experiments.tracking import StudyTracker

CALLS, VALUES, PACE_S = 200, 12, 0.05


@dataclass(frozen=True)
class Nothing:
    """The config of a run that trains nothing."""

    k: int = 0


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as home, StudyTracker(Path(home) / "study", "benchmark") as tracker:
        outboxed, straight = tracker.run("outbox", Nothing()), tracker.run("straight", Nothing())
        run_id, client = tracker.run_id(straight), tracker.client
        took: dict[str, list[float]] = {"outbox": [], "straight": []}
        for step in track(range(CALLS), description="calls", total=CALLS):
            time.sleep(PACE_S)
            values = {f"loss.term{i}": float(step + i) for i in range(VALUES)}
            begun = time.perf_counter()
            tracker.curve(outboxed, step, values)
            took["outbox"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            now = int(time.time() * 1000)
            client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])
            took["straight"].append(time.perf_counter() - begun)
        assert tracker.wait()
        history = client.get_metric_history(tracker.run_id(outboxed), "loss/term0")
        assert [point.step for point in history] == list(range(CALLS))
    for name, seconds in took.items():
        worst = statistics.quantiles(seconds, n=20)[-1]
        print(f"{name:9} median {1000 * statistics.median(seconds):7.2f} ms   95 % {1000 * worst:7.2f} ms")
    ratio = statistics.median(took["straight"]) / statistics.median(took["outbox"])
    print(f"{CALLS} calls of {VALUES} values; straight / outbox = {ratio:.1f}")


if __name__ == "__main__":
    main()
