from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.published.command import TablesOptions


@pytest.fixture(scope="module")
def study(invent_runs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invent_runs(tmp_path_factory.mktemp("runs") / "study", {"baseline": 0.0, "+graph": 0.1, "clipcap": 0.0})


def test_tables_of_studies_in_three_files(command: Callable[..., Any], study: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "tables"
    outcome = command("tables", study, study / "+graph", "--out", out, "--labels", "these", "those")
    assert outcome.status == 0
    assert sorted(file.name for file in out.iterdir()) == ["tables.html", "tables.md", "tables.tex"]
    for file in out.iterdir():
        text = file.read_text()
        assert "Measured with RegionCap on these" in text
        assert "Measured with RegionCap on those" in text
        assert "156.7" in text
    assert outcome.out.count("As printed in Wang et al. 2025") == 4


def test_published_rows_alone_and_some_tables(command: Callable[..., Any]) -> None:
    outcome = command("tables", "--numbers", "5", "6")
    assert outcome.status == 0
    assert "Measured" not in outcome.out
    assert outcome.out.count("As printed in") == 2
    assert "Table 3" not in outcome.out.replace("above the 32.8 of Table 3", "")


def test_what_is_wrong_is_one_line(command: Callable[..., Any], study: Path, tmp_path: Path) -> None:
    outcome = command("tables", study, "--labels", "a", "b")
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1)
    assert "--labels must be one a study: got 2 for 1" in outcome.err
    assert "holds no scores.json" in command("tables", tmp_path).err
    for numbers in ((), (2,)):
        with pytest.raises(ValueError, match="--numbers must be some of 3, 4, 5, 6"):
            TablesOptions(numbers=numbers)
