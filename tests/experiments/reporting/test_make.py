"""`regioncap report` as a user calls it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from regioncap.experiments.reporting.content import gather
from regioncap.experiments.reporting.make import ReportOptions, make_report


def test_report_has_markdown_and_latex_beside_it(
    command: Callable[..., Any], invent: Callable[..., Path], tmp_path: Path
) -> None:
    study = invent(tmp_path / "study")
    done = command("report", study, "--out", tmp_path / "out" / "report.html", "--images", 3)
    assert (done.status, done.err) == (0, "")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"report.html", "report.md", "report.tex"}
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert markdown.startswith("# Ablation study on scenes: invented\n\n| arm | seeds |")
    assert "## Cost of each arm" in markdown
    assert "one warning" in markdown
    latex = (tmp_path / "out" / "report.tex").read_text()
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 2
    assert "+graph+guidance & 2 &" in latex
    assert "\\textbf{" in latex


@pytest.mark.parametrize("arguments", [("nowhere",), ("nowhere", "--storage", "no.journal")])
def test_study_that_is_not_there_is_one_line_and_status_2(
    command: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = command("report", *arguments, "--out", tmp_path / "report.html")
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert arguments[-1] in line
    assert not (tmp_path / "report.html").exists()


def test_folder_without_a_run_is_one_line(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = command("report", tmp_path / "empty", "--out", tmp_path / "report.html")
    assert done.status == 1
    assert "holds no finished run" in done.err


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--out must be a file that ends in \.html, got report\.pdf"):
        ReportOptions(out=Path("report.pdf"))
    with pytest.raises(ValueError, match="--images must be at least 0, got -1"):
        ReportOptions(out=Path("report.html"), images=-1)


def test_page_is_not_written_where_it_cannot_be(invent: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(ValueError, match=r"report\.md is a folder"):
        make_report(tmp_path, ReportOptions(out=tmp_path / "report.html"))


def test_search_is_found_by_name_with_plots_and_best_trials(
    command: Callable[..., Any], tmp_path: Path, browser: Any
) -> None:
    from regioncap.experiments.tuning.budget import requeue
    from regioncap.experiments.tuning.storage import open_storage

    journal = tmp_path / "study.journal"
    storage = open_storage(str(journal), tmp_path, requeue)
    study = optuna.create_study(study_name="mine", storage=storage, direction="maximize")
    study.optimize(lambda trial: 30.0 - (trial.suggest_int("graph.k", 2, 9) - 5) ** 2, n_trials=12)
    done = command("report", "mine", "--storage", journal, "--out", tmp_path / "tune.html")
    assert (done.status, done.err) == (0, "")
    browser.open(tmp_path / "tune.html", 1200)
    assert browser.run("JSON.stringify({...document.documentElement.dataset})") == "{}"
    assert browser.run("document.querySelectorAll('#plots img').length") >= 3
    assert browser.run("document.querySelector('#tables h3').textContent") == "Best trials of mine"
    first = browser.run("[...document.querySelectorAll('#tables tbody tr:first-child td')].map((c) => c.textContent)")
    assert first[:2] == [f"{study.best_value:.1f}", str(study.best_params["graph.k"])]
    missing = command("report", "yours", "--storage", journal, "--out", tmp_path / "tune.html")
    assert missing.status == 2
    assert "has no study 'yours'; there are: mine" in missing.err
    (tmp_path / "tune.json").write_text(json.dumps({"name": "mine", "storage": str(journal)}))
    by_folder = gather(tmp_path)
    assert by_folder.title == "Search mine"


@pytest.mark.slow
def test_a_thousand_runs_are_reported_in_half_a_minute(invent: Callable[..., Path], tmp_path: Path) -> None:
    arms = ("clipcap", "baseline", "+graph", "+graph+guidance", "random edges")
    study = invent(tmp_path / "study", arms=arms, seeds=200, images=400)
    started = time.process_time()  # of this process: other work on the machine is no matter of the report's
    make_report(study, ReportOptions(out=tmp_path / "report.html"))
    assert time.process_time() - started < 30
    assert (tmp_path / "report.html").stat().st_size < 5 * 2**20
