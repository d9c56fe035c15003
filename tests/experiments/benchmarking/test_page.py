"""The page of a run: alone and in a study's report, in a browser."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.benchmarking.page import bench_data, bench_page
from regioncap.experiments.benchmarking.record import STAGES, Ratio
from regioncap.experiments.benchmarking.results import write_results
from regioncap.experiments.reporting.make import ReportOptions, make_report

pytestmark = pytest.mark.timeout(120)  # a browser that hangs must not hang the tests

Invent = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, invent_bench: Invent, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end it must have met no error."""

    def opened(width: int = 1200, scheme: str = "light") -> Any:
        file = tmp_path / "bench.html"
        file.write_text(bench_page(invent_bench()), encoding="utf-8")
        browser.open(file, width, scheme)
        return browser

    yield opened
    assert json.loads(browser.run("JSON.stringify({...document.documentElement.dataset})")) == {}


def count(browser: Any, selector: str) -> int:
    return int(browser.run(f"document.querySelectorAll({json.dumps(selector)}).length"))


def test_page_asks_the_network_for_nothing(invent_bench: Invent) -> None:
    page = bench_page(invent_bench())
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page
    assert "<b>&faiss" not in page


def test_every_part_draws_itself(opened: Callable[..., Any], invent_bench: Invent) -> None:
    browser, data = opened(), bench_data(invent_bench())
    assert count(browser, "svg rect.part") == 2 * len(STAGES)
    assert count(browser, ".stages li") >= len(STAGES)
    assert count(browser, "svg path.rod") == len(data["ratios"]) == 2
    assert count(browser, "svg g.lost") == 1
    assert count(browser, "svg path.curve") == 2  # time and memory over regions
    assert count(browser, "#bench-body table") == len(data["tables"]) == len(STAGES) + 1
    links = browser.run("[...document.querySelectorAll('nav a')].map((link) => link.hash)")
    assert links == ["#bench", "#bench-pipeline", "#bench-peers", "#bench-scale", "#bench-stages"]
    assert "Graph and guidance take" in browser.run("document.querySelector('.answer').textContent")


def test_a_peers_long_name_is_cut_on_a_phone_and_told_whole(
    browser: Any, record_of: Invent, case_of: Invent, results_of: Invent, tmp_path: Path
) -> None:
    ratio = Ratio(peer="a peer of a name " * 8, low=1.0, median=2.0, high=3.0)
    page = bench_page(results_of([case_of(record_of(ratios=(ratio,)))]))
    (tmp_path / "bench.html").write_text(page, encoding="utf-8")
    browser.open(tmp_path / "bench.html", 390, "light")
    label = browser.run("document.querySelector('text.row-name').firstChild.textContent")
    whole = browser.run("document.querySelector('text.row-name title').textContent")
    assert label.endswith("…")
    assert whole.startswith(label[:-1])
    assert "name a peer" in whole
    assert browser.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(opened: Callable[..., Any], scheme: str) -> None:
    browser = opened(390, scheme)
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_a_run_without_pipeline_peers_and_curves_has_its_tables(
    browser: Any, record_of: Invent, case_of: Invent, results_of: Invent, tmp_path: Path
) -> None:
    page = bench_page(results_of([case_of(record_of())], failed={"bench_x.py": "boom"}))
    (tmp_path / "bench.html").write_text(page, encoding="utf-8")
    browser.open(tmp_path / "bench.html", 1200, "light")
    assert count(browser, "table") == 1
    assert browser.run("document.querySelector('.warning').textContent") == "Without results: bench_x.py: boom"
    assert browser.run("JSON.stringify({...document.documentElement.dataset})") == "{}"


def test_report_of_a_study_takes_a_run_in(
    browser: Any, invent_bench: Invent, invent_runs: Callable[..., Path], tmp_path: Path
) -> None:
    study = invent_runs(tmp_path / "study", {"baseline": 0.0, "+graph": 0.1})
    for place in study.glob("*/seed*"):
        result = {
            "arm": place.parent.name,
            "experiment": {"seed": int(place.name[4:])},
            "parameters": 1,
            "train_cpu_s": 1.0,
        }
        (place / "result.json").write_text(json.dumps(result | {"history": []}))
    write_results(invent_bench(), tmp_path / "bench")
    page, markdown, latex = make_report(
        study, ReportOptions(out=tmp_path / "report.html", bench=tmp_path / "bench", images=0)
    )
    browser.open(page, 1200, "light")
    assert count(browser, "svg rect.part") == 2 * len(STAGES)
    assert count(browser, "#tables table") == 1
    assert browser.run("JSON.stringify({...document.documentElement.dataset})") == "{}"
    for text in (markdown.read_text(), latex.read_text()):
        assert "The pipeline, batch 8" in text
        assert "Peers over ours" in text
