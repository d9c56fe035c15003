"""JSON and CSV."""

import csv
import io
import json

import pytest

from regioncap.experiments.metrics import METRICS
from regioncap.experiments.scoring.export import comparison_json, per_image_csv


def test_json_holds_scores_intervals_and_p_in_percent(invented):
    comparison = invented(absent={"SPICE": "no jars"}, warnings=(("few",), ()), samples=100, seed=2)
    content = json.loads(comparison_json(comparison, "r.json"))
    assert content["references"] == "r.json"
    assert content["images"] == 30
    assert content["unit"] == "percent"
    assert content["against"] == "old"
    assert content["bootstrap"] == {"samples": 100, "seed": 2, "level": 0.95}
    assert content["missing"] == {"SPICE": "no jars"}
    assert {"python", "regioncap", "pycocoevalcap"} <= set(content["versions"])
    assert content["metrics"] == [metric for metric in METRICS if metric != "SPICE"]
    old, new = content["systems"]
    assert (old["name"], old["file"], old["warnings"]) == ("old", "/home/someone/old.json", ["few"])
    for metric, cells in comparison.measured.items():
        for told, cell in zip((old, new), cells, strict=True):
            assert told["scores"][metric]["value"] == pytest.approx(100 * cell.value, abs=1e-5)
            assert told["scores"][metric]["low"] == pytest.approx(100 * cell.low, abs=1e-5)
            assert told["scores"][metric]["high"] == pytest.approx(100 * cell.high, abs=1e-5)
            assert told["scores"][metric]["p"] == cell.p


def test_parts_of_spice_are_told(invented):
    _, new = json.loads(comparison_json(invented(parts=("Object", "Size"), samples=99), "r.json"))["systems"]
    assert new["spice_parts"] == {
        part: {"value": 50.0, "low": 50.0, "high": 50.0, "p": 0.01} for part in ("Object", "Size")
    }


def test_csv_has_a_line_an_image_and_system(invented):
    odd = 'one, "two"\nthree'
    comparison = invented(texts=(odd,))
    rows = list(csv.DictReader(io.StringIO(per_image_csv(comparison), newline="")))
    assert [(row["image"], row["system"]) for row in rows[:3]] == [("0.jpg", "old"), ("0.jpg", "new"), ("1.jpg", "old")]
    assert len(rows) == 60
    assert list(rows[0]) == ["image", "system", "caption", *METRICS]
    assert rows[0]["caption"] == odd
    new = comparison.systems[1].scores.per_image["0.jpg"]
    assert {metric: float(rows[1][metric]) for metric in METRICS} == pytest.approx(
        {metric: 100 * new[metric] for metric in METRICS}, abs=1e-5
    )
