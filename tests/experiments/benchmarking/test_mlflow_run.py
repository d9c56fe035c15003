"""A run in MLflow: parameters, metrics and artifacts, read back from a real store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from regioncap.experiments.benchmarking.mlflow_run import log_results, metrics_of
from regioncap.experiments.benchmarking.results import read_results, write_results
from regioncap.experiments.commands.bench import bench_command

Invent = Callable[..., Any]


def test_metrics_are_named_by_stage_case_and_quantity(invent_bench: Invent) -> None:
    values = metrics_of(invent_bench().cases)
    assert values["graph/as Table 2 has it/p50_s"] == pytest.approx(0.16)
    assert values["graph/GAT, regions 100/p50_s"] == pytest.approx(0.01)
    assert values["graph/GAT/time of PyG over ours"] == 1.5
    assert "graph/GAT/flops" not in values


def test_a_run_is_logged_and_read_back(
    invent_bench: Invent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, results = tmp_path / "runs" / "bench", invent_bench()
    file = write_results(results, out)
    said = log_results(results, out, (file,))
    run_id = said.split()[2].rstrip(";")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    run = client.get_run(run_id)
    assert run.data.params["machine.cpu"] == "A CPU"
    assert run.data.params["set"] == "standard"
    assert run.data.metrics["graph/as Table 2 has it/p50_s"] == pytest.approx(0.16)
    assert run.info.status == "FINISHED"
    assert {artifact.path for artifact in client.list_artifacts(run_id)} >= {"results.json"}
    # By its id, it is compared.
    write_results(invent_bench(speed=2.0), tmp_path / "after")
    capsys.readouterr()
    assert bench_command(["compare", run_id, str(tmp_path / "after"), "--home", str(tmp_path / "runs")]) == 0
    assert "figures moved by more than 5 %" in capsys.readouterr().out
    assert read_results(out) == results


def test_a_store_that_is_away_loses_nothing(
    invent_bench: Invent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    assert log_results(invent_bench(), tmp_path / "bench", ()).startswith("not logged to MLflow: ")
