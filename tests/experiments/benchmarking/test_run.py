"""A whole run over a checkout of two small files: real subprocesses, real JSON of pytest-benchmark."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.benchmarking import run as run_module
from regioncap.experiments.benchmarking.machine import cores
from regioncap.experiments.benchmarking.results import read_results
from regioncap.experiments.benchmarking.run import RunOptions, run_benchmarks
from regioncap.experiments.benchmarking.suite import find_benchmarks, run_file, select

BENCH = """
from pathlib import Path

import pytest

RECORD = dict(
    stage="{stage}", device="cpu", images=8, sizes={{"dim": 4}}, p95_s=1.0, peak_mib=None, memory="rss", parameters=0,
    flops=None, peak_share=None, null=False, pipeline=False, point=None, ratios=[], images_per_s=1.0,
)


def test_quick(benchmark):
    with (Path(__file__).parent / "calls.txt").open("a") as calls:
        calls.write("{stage}\\n")
    benchmark.pedantic(lambda: sum(range(1000)), rounds=4)
    benchmark.extra_info["record"] = RECORD | dict(case="quick", p50_s=benchmark.stats.stats.median)


@pytest.mark.slow
def test_slow(benchmark):
    benchmark.pedantic(lambda: sum(range(1000)), rounds=4)
    benchmark.extra_info["record"] = RECORD | dict(case="slow", p50_s=benchmark.stats.stats.median)


def test_no_benchmark():
    raise AssertionError("only benchmarks are run")
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that this process works in."""
    folder = tmp_path / "checkout" / "benchmarks"
    folder.mkdir(parents=True)
    (folder.parent / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow: takes minutes"]\n')
    for stage in ("graph", "decoder"):
        (folder / f"bench_{stage}.py").write_text(BENCH.format(stage=stage))
    (folder / "bench_by_hand.py").write_text("print('no tests here')")
    monkeypatch.chdir(folder.parent)
    return folder.parent


@pytest.fixture
def calls(checkout: Path) -> Callable[[], list[str]]:
    """The benchmarks that ran, in order."""
    file = checkout / "benchmarks" / "calls.txt"
    return lambda: file.read_text().split() if file.is_file() else []


def test_every_file_is_measured_and_slow_ones_in_the_full_set_alone(checkout: Path) -> None:
    results = run_benchmarks(RunOptions())
    assert results == read_results(Path("runs/bench"))
    assert [case.name for case in results.cases] == ["decoder: quick", "graph: quick"]
    assert all(
        len(case.rounds) == 4 and case.record.p50_s == pytest.approx(sorted(case.rounds)[1], rel=1)
        for case in results.cases
    )
    assert set(results.seconds) == {"bench_graph.py", "bench_decoder.py"}
    assert results.failed == {}
    full = run_benchmarks(RunOptions(set="full", only=("graph",)))
    assert [case.name for case in full.cases] == ["graph: quick", "graph: slow"]
    assert read_results(Path("runs/bench-graph")) == full  # and the run of all is still there
    assert len(read_results(Path("runs/bench")).cases) == 2


@pytest.fixture
def ran(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are run, by a function that stands in for the subprocess; `stop` in the list ends a run there."""
    names: list[str] = []

    def run(file: Path, *rest: object, **more: object) -> str:
        if "stop" in names and file.stem == "bench_graph":
            raise KeyboardInterrupt
        names.append(file.stem)
        return ""

    monkeypatch.setattr(run_module, "run_file", run)
    return names


def test_a_run_that_was_stopped_goes_on(ran: list[str]) -> None:
    ran.append("stop")
    with pytest.raises(KeyboardInterrupt):
        run_benchmarks(RunOptions())
    assert ran == ["stop", "bench_decoder"]
    ran.clear()
    results = run_benchmarks(RunOptions())
    assert ran == ["bench_graph"]
    assert set(results.seconds) == {"bench_decoder.py", "bench_graph.py"}
    run_benchmarks(RunOptions())  # a finished run is measured anew
    assert ran == ["bench_graph", "bench_decoder", "bench_graph"]


@pytest.mark.skipif(cores() < 2, reason="two files at once want two cores")
def test_files_at_once_have_a_core_each_and_all_are_kept(checkout: Path) -> None:
    for stage in ("graph", "decoder"):
        file = checkout / "benchmarks" / f"bench_{stage}.py"
        told = f"    (Path(__file__).parent / '{stage}.core').write_text(str(sorted(os.sched_getaffinity(0))))\n"
        file.write_text("import os\n" + file.read_text().replace("    with (Path", told + "    with (Path", 1))
    results = run_benchmarks(RunOptions(jobs=2))
    assert [case.name for case in results.cases] == ["decoder: quick", "graph: quick"]
    assert results.machine.jobs == 2
    own = [(checkout / "benchmarks" / f"{stage}.core").read_text() for stage in ("graph", "decoder")]
    assert len(set(own)) == 2
    assert all(core.count(",") == 0 for core in own)


@pytest.mark.skipif(cores() < 2, reason="two files at once want two cores")
def test_what_ends_a_run_ends_all_of_its_processes(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = checkout / "benchmarks" / "bench_decoder.py"
    endless.write_text("import time\n\n\ndef test_endless(benchmark):\n    benchmark(time.sleep, 600)\n")
    real, processes = run_module.run_file, []

    def run(file: Path, *rest: Any, **more: Any) -> str:
        if file.stem == "bench_graph":
            while not processes:
                time.sleep(0.05)
            raise KeyboardInterrupt
        began = more.pop("began")
        return real(file, *rest, **more, began=lambda process: (began(process), processes.append(process)))

    monkeypatch.setattr(run_module, "run_file", run)
    with pytest.raises(KeyboardInterrupt):
        run_benchmarks(RunOptions(jobs=2))
    assert processes[0].wait(timeout=10) != 0
    assert json.loads((checkout / "runs" / "bench" / "unfinished.json").read_text())["seconds"] == {}


def test_more_at_once_than_cores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--jobs must lie in 1\.\."):
        RunOptions(jobs=cores() + 1)


def test_what_was_measured_of_other_sources_is_measured_again(checkout: Path, ran: list[str]) -> None:
    state = checkout / "runs" / "bench" / "unfinished.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"key": "of other sources", "started": "then", "seconds": {"bench_graph.py": 1.0}}))
    assert run_benchmarks(RunOptions()).started != "then"
    assert ran == ["bench_decoder", "bench_graph"]
    assert not state.exists()


def test_a_file_that_fails_is_named_and_the_others_are_kept(checkout: Path, calls: Callable[[], list[str]]) -> None:
    broken = checkout / "benchmarks" / "bench_graph.py"
    broken.write_text(broken.read_text().replace("sum(range(1000))", "1 / 0", 1))
    results = run_benchmarks(RunOptions())
    assert [case.name for case in results.cases] == ["decoder: quick"]
    assert results.failed["bench_graph.py"].startswith("1 failed, the first with ZeroDivisionError: division by zero")
    assert "bench_graph.log" in results.failed["bench_graph.py"]
    run_benchmarks(RunOptions())
    assert calls() == ["decoder", "graph", "graph"]  # only the one that failed is run again


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No checkout anywhere."""
    monkeypatch.setattr("regioncap.experiments.benchmarking.suite.__file__", str(tmp_path / "suite.py"))
    return


def test_outside_a_checkout_it_says_where_it_looked(outside: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"no benchmarks/bench_\*\.py in {tmp_path}.*inside a checkout"):
        find_benchmarks(tmp_path)


@pytest.mark.parametrize("line", ["collecting ... collected 40 items / 8 deselected / 32 selected", "collected 1 item"])
def test_progress_counts_what_was_selected(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    """pytest's own words, said by a program that stands in its place."""
    said = f"print({line!r}); print('x::a PASSED [ 50%]'); print('x::b FAILED [100%]')"
    monkeypatch.setattr("regioncap.experiments.benchmarking.suite._command", lambda *_: [sys.executable, "-c", said])
    told: list[tuple[int, int]] = []
    file = checkout / "benchmarks" / "bench_graph.py"
    assert run_file(file, "standard", tmp_path / "x.json", lambda done, of: told.append((done, of))) == ""
    assert told == ([(1, 32), (2, 32)] if "selected" in line else [(1, 1), (2, 2)])


def test_only_names_files_as_people_call_them(checkout: Path) -> None:
    folder = find_benchmarks()
    assert folder == (checkout / "benchmarks").resolve()
    for word in ("graph", "bench_graph.py", "bench_graph"):
        assert [file.name for file in select(folder, [word])] == ["bench_graph.py"]
    with pytest.raises(ValueError, match=r"--only by-hand: .* has no bench_by_hand\.py; there are decoder, graph"):
        select(folder, ["by-hand"])


def test_busy_machine_is_said(
    ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert run_benchmarks(RunOptions(only=("graph",))).machine.busy
    assert "the machine is busy (load 1000.0 on" in capsys.readouterr().out
