import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regioncap.experiments.steering.measure import MeasureSteeringOptions
from regioncap.experiments.steering.measure_report import plot, table
from regioncap.experiments.steering.trials import Trials

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def measured(
    command: Command,
    trained: tuple[Any, Path],
    scenes_root: Path,
    cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("steering")
    outcome = command(
        "measure-steering", trained[1] / "checkpoint", "--data.root", scenes_root, "--cache", cache, "--images", 6,
        "--strengths", 2, 9, "--out", out,
    )  # fmt: skip
    return outcome, out


def test_the_command_measures_every_kind_at_every_strength(measured: tuple[Any, Path]) -> None:
    outcome, out = measured
    assert outcome.status == 0, outcome.err
    found = json.loads((out / "steering.json").read_text())
    assert found["about"]["images"] == 6
    kinds = [kind for kind in Trials.KINDS if found["trials"][kind]]
    assert {"add colour", "add object", "add true word"} <= set(kinds)
    for kind in kinds:
        assert [row["strength"] for row in found["rows"] if row["edit"] == kind] == [2.0, 9.0]
        for told in found["trials"][kind]:
            assert told["after"].keys() == {"2.0", "9.0"}
    assert (out / "steering.md").read_text() in outcome.out


def test_the_shares_are_those_of_the_captions_that_are_told(measured: tuple[Any, Path]) -> None:
    found = json.loads((measured[1] / "steering.json").read_text())
    for row in found["rows"]:
        if row["edit"] not in found["trials"]:
            continue
        trials = found["trials"][row["edit"]]
        assert row["images"] == len(trials)
        said = [trial["word"] in trial["after"][str(row["strength"])].split() for trial in trials]
        assert row["said_with"] == pytest.approx(sum(said) / len(said))
        before = [trial["word"] in trial["before"].split() for trial in trials]
        assert row["said_without"] == pytest.approx(sum(before) / len(before)) == (row["edit"] == "drop")
        assert 0 < row["p"] <= 1


def test_a_captioner_without_words_is_refused_in_one_line(
    command: Command, trained: tuple[Any, Path], tmp_path: Path
) -> None:
    outcome = command("measure-steering", tmp_path, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert "is no checkpoint" in outcome.err
    assert outcome.err.count("\n") == 1


def test_table_and_plot_show_every_row(tmp_path: Path) -> None:
    rows = [
        {"edit": edit, "strength": strength, "images": 7, "said_without": 0.0, "said_with": 0.5,
         "CIDEr_without": 50.0, "CIDEr_with": 44.0, "p": 0.04}
        for edit in ("add colour", "drop false word") for strength in (2.0, 4.5)
    ]  # fmt: skip
    text = table(rows, {"images": 9, "CIDEr": 51.26, "seed": 3})
    assert "| drop false word | 7 | 4.5 | 0 % | 50 % | 50.0 | 44.0 | -6.0 | 0.040 |" in text
    assert "9 images, CIDEr 51.3 without edits, seed 3" in text
    plot(rows, tmp_path / "a" / "plot.png")
    with Image.open(tmp_path / "a" / "plot.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("images", -1, "images must be at least 0"), ("strengths", (), "one at least"), ("strengths", (0.0,), "positive")],
)
def test_options_out_of_range_are_refused(tmp_path: Path, field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MeasureSteeringOptions(out=tmp_path, **{field: value})
