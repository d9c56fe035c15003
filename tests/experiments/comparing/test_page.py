"""The page: that of `regioncap score`, with the differences."""

import json
import re
from pathlib import Path

import pytest

from regioncap.experiments.comparing.effects import compare_runs
from regioncap.experiments.comparing.page import runs_data, runs_page
from regioncap.experiments.comparing.pictures import RunPictures

pytestmark = pytest.mark.timeout(120)  # a browser that hangs must not hang the tests


def test_page_holds_means_over_seeds_and_the_differences(make_run):
    (base, old), (run, new) = make_run("base", seeds=(0, 1)), make_run("run", seeds=(0, 1), gain=0.1)
    comparison = compare_runs(base, run, bleu_counts=[*old, *new], samples=50)
    references = {name: ["a dog runs"] for name in comparison.images}
    data = runs_data(comparison, references, RunPictures((base, run), None), source="ours.json", images=7)
    assert data["changes"]["head"][0] == "metric"
    assert len(data["changes"]["rows"]) == len(comparison.effects)
    assert data["table"]["CIDEr"][1]["value"] == f"{100 * comparison.effects['CIDEr'].run.mean:.1f}"
    assert len(data["images"]) == 7
    image = data["images"][0]
    means = [sum(own.scores.per_image[image["name"]]["CIDEr"] for own in side.seeds) / 2 for side in (base, run)]
    assert image["scores"]["CIDEr"] == pytest.approx([100 * mean for mean in means], abs=0.01)
    assert image["captions"][1] == f"run 0 says {image['name']} / run 1 says {image['name']}"
    assert any("one / another" in line for line in data["legend"])


def test_what_has_no_interval_shows_none(make_run):
    (base, _), (run, _) = make_run("base"), make_run("run")
    comparison = compare_runs(base, run, samples=20)
    data = runs_data(comparison, {}, RunPictures((base, run), None), source="x", images=1)
    assert [cell["interval"] for cell in data["table"]["BLEU-4"]] == ["", ""]
    assert data["table"]["CIDEr"][0]["interval"] != ""
    json.dumps(data, allow_nan=False)


def test_page_draws_the_differences_in_a_browser(make_run, browser, tmp_path: Path):
    (base, _), (run, _) = make_run("<b>base</b>"), make_run("run", gain=0.1)
    comparison = compare_runs(base, run, samples=20)
    page = tmp_path / "page.html"
    references = {name: ["a dog"] for name in comparison.images}
    page.write_text(runs_page(comparison, references, RunPictures((base, run), None), source="x", images=3))
    assert not re.search(r"https?://(?!www\.w3\.org)", page.read_text())
    browser.open(page, 1200)
    shown = browser.run("document.getElementById('parts').innerText")
    assert "Differences" in shown
    assert "<b>base</b>" in shown
    assert f"{100 * comparison.effects['CIDEr'].difference:+.1f}" in shown
    assert browser.run("document.documentElement.dataset.error || ''") == ""
