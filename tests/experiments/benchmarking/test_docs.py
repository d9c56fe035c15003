"""A document filled from a run, and the tables that go into it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.benchmarking.docs import exponent_table, fill_document, measured_parts
from regioncap.experiments.benchmarking.record import STAGES
from regioncap.experiments.benchmarking.tables import all_tables, stage_tables

Invent = Callable[..., Any]


def test_marks_are_filled_again_and_again_and_the_rest_stays(invent_bench: Invent, tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(
        "# Title\n\n<!-- measured: answer -->\n<!-- end -->\n\nBetween.\n\n"
        "<!-- measured: peers -->\nold\n<!-- end -->\nLast.\n"
    )
    assert fill_document(document, invent_bench()) == ["answer", "peers"]
    once = document.read_text()
    assert "old" not in once
    assert once.startswith("# Title\n\n<!-- measured: answer -->\nGraph and guidance take")
    assert "\nBetween.\n" in once
    assert once.endswith("<!-- end -->\nLast.\n")
    fill_document(document, invent_bench())
    assert document.read_text() == once
    for picture in ("performance.png", "performance-regions.png"):
        assert (tmp_path / picture).stat().st_size > 1000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nothing", "no mark"),
        ("<!-- measured: moon -->\n<!-- end -->", "mark 'moon'"),
        ("<!-- measured: peers -->\n", "wants"),
    ],
)
def test_a_document_without_its_marks_is_refused(invent_bench: Invent, tmp_path: Path, text: str, why: str) -> None:
    document = tmp_path / "x.md"
    document.write_text(text)
    with pytest.raises(ValueError, match=why):
        fill_document(document, invent_bench())
    assert document.read_text() == text
    with pytest.raises(ValueError, match="cannot be read"):
        fill_document(tmp_path / "none.md", invent_bench())


def test_the_repositorys_document_has_marks_that_a_run_fills() -> None:
    document = Path(__file__).parents[3] / "docs" / "performance.md"
    assert "<!-- measured: pipeline -->" in document.read_text()


def test_tables_have_every_case_but_points_of_curves(invent_bench: Invent) -> None:
    results = invent_bench()
    rows = [row for table in stage_tables(results) for row in table.rows]
    assert len(rows) == sum(case.record.point is None for case in results.cases)
    graph = next(table for table in stage_tables(results) if table.title == "graph")
    assert graph.rows[0] == ("as Table 2 has it", "8", "160", "192", "50", "14.0", "1,000", "1", "50%")
    assert graph.rows[1][0] == "no graph (null stage)"
    assert graph.note == "regions 36, dim 512"
    titles = [table.title for table in all_tables(results)]
    assert titles == ["The pipeline, batch 8", *STAGES, "captioner", "Peers over ours"]
    assert "| graph: GAT | PyG | time | 1.50 | 1.40 to 1.60 |" in measured_parts(results)["peers"]


def test_curves_have_a_row_with_their_ends_and_exponents(invent_bench: Invent) -> None:
    time, memory = exponent_table(invent_bench()).rows
    assert time == ("GAT", "regions", "time", "10 to 1000", "0.1 to 1e+03", "2.00 ± 0.00", "2.00 ± 0.00")
    assert memory == ("GAT", "regions", "memory", "10 to 1000", "5 to 500", "1.00 ± 0.00", "1.00 ± 0.00")
