"""`regioncap train` as a user runs it, killed with everything it started, then gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient


def start(out: Path, flags: list[str]) -> "subprocess.Popen[bytes]":
    words = [
        "train",
        "scenes",
        "--out",
        str(out),
        *flags,
        "--train.steps",
        "300",
        "--train.save-every",
        "10",
        "--resume",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.Popen(
        [sys.executable, "-m", "regioncap.experiments.cli", *words],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_killed_command_goes_on_in_the_same_run_and_says_the_same(flags: list[str], tmp_path: Path) -> None:
    whole = start(tmp_path / "a" / "whole", flags)
    _, complaint = whole.communicate(timeout=600)
    assert whole.returncode == 0, complaint.decode()[-2000:]
    out = tmp_path / "b" / "killed"
    runs = []
    for kill in range(3):
        command = start(out, flags)
        state = out / "training" / "state.pt"
        before = state.stat().st_mtime_ns if state.is_file() else 0
        while not (state.is_file() and state.stat().st_mtime_ns > before):
            assert command.poll() is None, command.stderr.read() if command.stderr else ""
            time.sleep(0.02)
        time.sleep(0.1 * kill)
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        runs.append(json.loads((out / "mlflow_runs.json").read_text()))
    last = start(out, flags)
    _, complaint = last.communicate(timeout=600)
    assert last.returncode == 0, complaint.decode()[-2000:]

    results = [json.loads((folder / "result.json").read_text()) for folder in (tmp_path / "a" / "whole", out)]
    assert results[0]["captions"] == results[1]["captions"]
    client = MlflowClient(f"sqlite:///{out.parent / 'mlflow.db'}")
    found = json.loads((out / "mlflow_runs.json").read_text())
    assert all(earlier.items() <= found.items() for earlier in runs)
    run = client.get_run(found["+graph+guidance seed 0"])
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss/total")]
    assert steps == list(range(20, 301, 20))
