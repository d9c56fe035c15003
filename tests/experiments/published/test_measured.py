import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regioncap.experiments.published.measured import read_measured
from regioncap.experiments.published.printed import read_published

ARMS = {"+graph+guidance": 0.2, "+graph": 0.1, "clipcap": -0.1, "baseline": 0.0, "random edges": 0.05, "mine": 0.3}


@pytest.fixture(scope="module")
def study(invent_runs: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invent_runs(tmp_path_factory.mktemp("runs") / "study", ARMS)


def test_arms_are_in_the_order_of_the_study_and_in_the_tables_that_they_belong_to(study: Path) -> None:
    block = read_measured(study)
    assert block.label == "scenes: invented"
    names = ["retrieval floor", "clipcap", "baseline", "+graph", "+graph+guidance", "random edges", "mine"]
    assert [row.name for row in block.rows] == names
    assert [row.name for row in block.rows if row.ablates] == ["baseline", "+graph", "+graph+guidance", "random edges"]
    assert [row.name for row in block.rows if row.competes] == [
        *("retrieval floor", "clipcap", "+graph+guidance", "mine")
    ]
    assert {row.name: row.seeds for row in block.rows} == dict.fromkeys(names, 2) | {"retrieval floor": 1}


def test_sum_adds_up_the_columns_of_its_table_seed_by_seed(study: Path) -> None:
    row = read_measured(study).rows[3]
    five, six = (read_published().tables[number].columns for number in (5, 6))
    assert row.column("SUM", five) is None  # without SPICE
    total = row.column("SUM", six)
    parts = [row.metrics[m].values for m in ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")]
    assert total is not None
    assert total.values == pytest.approx([sum(values) for values in zip(*parts, strict=True)])
    assert row.column("S", five) is None
    assert row.column("M", five) == row.metrics["METEOR"]


def test_a_single_run_is_a_block_of_one_row(study: Path, tmp_path: Path) -> None:
    block = read_measured(study / "+graph", "my photographs")
    assert (block.label, [row.name for row in block.rows]) == ("my photographs", ["+graph"])
    shutil.copy(study / "+graph" / "seed0" / "scores.json", tmp_path / "test-split.json")
    block = read_measured(tmp_path / "test-split.json")
    assert (block.label, block.rows[0].name) == ("test-split: 12 images", "test-split")
    assert block.rows[0].competes


def test_nothing_is_said_to_be_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no scores"):
        read_measured(tmp_path)
