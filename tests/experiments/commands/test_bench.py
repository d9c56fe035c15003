"""`regioncap bench`: what its commands print, write and end with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.benchmarking.machine import Machine
from regioncap.experiments.benchmarking.record import Ratio, StageRecord
from regioncap.experiments.benchmarking.results import BenchResults, CaseResult, write_results

Command = Callable[..., Any]


def write_run(folder: Path, p50_s: float, ratio: float) -> BenchResults:
    record = StageRecord(
        stage="graph", case="GAT", device="cpu", images=8, sizes={}, p50_s=p50_s, p95_s=2 * p50_s,
        ratios=(Ratio(peer="PyG", low=0.9 * ratio, median=ratio, high=1.1 * ratio),),
    )  # fmt: skip
    results = BenchResults(
        machine=Machine(cpu="A CPU", capability="AVX2", cores=2),
        started="now",
        set="standard",
        seconds={"bench_graph.py": 1.0},
        cases=(CaseResult(file="bench_graph.py", record=record, rounds=(p50_s,) * 5),),
    )
    write_results(results, folder)
    return results


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Before and after: a tenth slower, and the ratio a third lower."""
    write_run(tmp_path / "a", 0.010, 2.0)
    write_run(tmp_path / "b", 0.011, 1.3)
    return tmp_path / "a", tmp_path / "b"


def test_compare_prints_and_writes_what_moved(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    done = command("bench", "compare", *folders, "--json", tmp_path / "c.json", "--markdown", tmp_path / "c.md")
    assert (done.status, done.err) == (0, "")
    assert "graph: GAT" in done.out
    assert "10 ms" in done.out
    assert "2 figures moved by more than 5 %" in done.out
    changes = json.loads((tmp_path / "c.json").read_text())["changes"]
    assert [(change["what"], change["better"]) for change in changes] == [("time", False), ("time, PyG / ours", False)]
    assert "| graph: GAT | time | 10 ms | 11 ms | 1.10 | 1.10 to 1.10 | worse |" in (tmp_path / "c.md").read_text()
    assert "Nothing moved by more than 80 %" in command("bench", "compare", *folders, "--noise", "0.8").out
    wrong = command("bench", "compare", *folders, "--noise", "much")
    assert "--noise wants a share such as 5% or 0.05, got 'much'" in wrong.err


def test_gate_is_written_holds_and_falls(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = folders
    file = tmp_path / "expected.json"
    assert command("bench", "gate", before, "--expected", file, "--update").status == 0
    held = command("bench", "gate", before, "--expected", file)
    assert (held.status, held.err) == (0, "")
    assert "the gate holds: 1 expected ratios" in held.out
    fell = command("bench", "gate", after, "--expected", file)
    assert fell.status == 1
    assert len(fell.err.splitlines()) == 1
    assert "graph: GAT, PyG / ours (time): 1.30" in fell.err


def test_page_and_tables(command: Command, folders: tuple[Path, Path], tmp_path: Path) -> None:
    done = command("bench", "page", folders[0], "--markdown", tmp_path / "t.md")
    assert (done.status, done.err) == (0, "")
    assert (folders[0] / "bench.html").read_text().startswith("<!doctype html>")
    assert "| GAT | 8 | 10 | 20 | 800 |" in (tmp_path / "t.md").read_text()
    missing = command("bench", "page", tmp_path / "nowhere")
    assert missing.status == 1
    assert "regioncap bench run" in missing.err


def test_help_and_unknown_words(command: Command) -> None:
    for words in ([], ["--help"]):
        done = command("bench", *words)
        assert done.status == 0
        assert all(f"regioncap bench {name}" in done.out for name in ("run", "compare", "gate", "page"))
    assert "wants run, compare, gate, page first, got 'walk'" in command("bench", "walk").err
    assert "--only" in command("bench", "run", "--help").out


def test_run_ends_with_status_1_if_a_file_failed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = write_run(tmp_path / "bench", 0.01, 2.0)
    module = "regioncap.experiments.commands.bench"
    monkeypatch.setattr(f"{module}.run_benchmarks", lambda options: results)
    whole = command("bench", "run", "--out", tmp_path / "bench", "--no-mlflow")
    assert (whole.status, whole.err) == (0, "")
    assert "1 cases: " in whole.out
    monkeypatch.setattr(f"{module}.run_benchmarks", lambda options: replace(results, failed={"bench_x.py": "boom"}))
    failed = command("bench", "run", "--out", tmp_path / "bench", "--no-mlflow")
    assert failed.status == 1
    assert failed.err.strip() == "regioncap: bench_x.py: boom"

    def stop(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.run_benchmarks", stop)
    assert "the same command goes on" in command("bench", "run", "--no-mlflow").err
