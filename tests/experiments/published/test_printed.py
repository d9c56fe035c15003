"""The transcription, checked against what the paper says of its own tables elsewhere."""

import pytest

from regioncap.experiments.published.printed import PublishedTable, read_published

FIVE = ("B-1", "B-4", "M", "R", "C", "S", "SUM")
SIX = ("B-1", "B-4", "M", "R", "C", "SUM")


@pytest.fixture(scope="module")
def tables() -> dict[int, PublishedTable]:
    return dict(read_published().tables)


def cell(table: PublishedTable, row: str | int, column: str) -> float:
    found = table.rows[row] if isinstance(row, int) else next(own for own in table.rows if own.method == row)
    value = found.values[table.columns.index(column)]
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("number", "after", "before", "column", "says"),
    [
        # Sec. 4.3.1, the comparisons.
        (3, "Ours", "OFA", "C", 4.7),
        (3, "Ours", "OFA", "M", 2.8),
        (3, "Ours", "PureT", "C", 13.4),
        (4, "Ours", "SR-PL", "B-4", 16.4),
        (4, "Ours", "SR-PL", "R", 4.8),
        (4, "Ours", "Unified VLP", "M", 47.4),
        (4, "Ours", "Unified VLP", "C", 16.6),
        # Sec. 4.3.2, the ablations.
        *((5, 1, 0, *pair) for pair in zip(FIVE, (1.2, 4.3, 7.4, 1.6, 6.5, 2.2, 4.1), strict=True)),
        *((5, 2, 1, *pair) for pair in zip(FIVE, (2.1, 2.4, 7.9, 3.1, 9.4, 5.2, 5.7), strict=True)),
        *((6, 1, 0, *pair) for pair in zip(SIX, (1.1, 1.5, 2.1, 4.2, 8.5, 3.8), strict=True)),
        *((6, 2, 1, *pair) for pair in zip(SIX, (0.7, 3.6, 14.1, 1.0, 10.1, 5.2), strict=True)),
    ],
)
def test_gains_that_the_text_states_follow_from_the_table(tables, number, after, before, column, says):
    table = tables[number]
    gain = 100 * (cell(table, after, column) / cell(table, before, column) - 1)
    assert gain == pytest.approx(says, abs=0.0501)


@pytest.mark.parametrize("number", [5, 6])
def test_sum_is_the_sum_of_the_other_columns(tables, number):
    for row in tables[number].rows:
        *parts, total = row.values
        assert sum(parts) == pytest.approx(total, abs=1e-6)


def test_own_rows_of_comparison_and_ablation_agree(tables):
    for comparison, ablation in ((3, 5), (4, 6)):
        own, last = tables[comparison].rows[-1], tables[ablation].rows[-1]
        shared = [column for column in tables[comparison].columns if column in tables[ablation].columns]
        for column in shared:
            assert cell(tables[comparison], own.method, column) == cell(
                tables[ablation], len(tables[ablation].rows) - 1, column
            )
        assert last.parts == ("Baseline", "GAT-LFE", "MSG")


def test_every_row_is_whole_and_cited(tables):
    published = read_published()
    assert [len(tables[number].rows) for number in (3, 4, 5, 6)] == [12, 8, 3, 3]
    for table in tables.values():
        for row in table.rows:
            assert len(row.printed) == len(table.columns)
            assert row.reference is None or row.reference in published.references
            own = row.reference is None and (row.method == "Ours" or len(row.parts) == 3)
            assert all(cell.startswith("* ") == own for cell in row.printed if cell != "-")
    cited = {row.reference for table in tables.values() for row in table.rows} - {None}
    assert cited == set(published.references)


def test_what_notes_claim_of_the_tables_is_so(tables):
    three, four = tables[3], tables[4]
    best = {
        column: max(row.values[at] for row in three.rows if row.values[at] is not None)
        for at, column in enumerate(three.columns)
    }
    assert [column for column in three.columns if cell(three, "Ours", column) == best[column]] == ["C"]
    assert cell(three, "MMGAT", "B-4") == cell(three, "Ours", "B-4")
    assert all(cell(three, "MMGAT", column) > cell(three, "Ours", column) for column in ("B-1", "R", "S"))
    assert all(cell(three, "OFA", column) > cell(three, "Ours", column) for column in ("B-4", "S"))
    assert cell(three, "CoCa", "M") > cell(three, "Ours", "M")
    assert cell(four, "Ours", "M") > cell(three, "Ours", "M")
    assert cell(four, "Ours", "M") - max(row.values[2] for row in four.rows[:-1]) == pytest.approx(10.6)
    assert cell(three, "Ours", "C") / 154.9 - 1 == pytest.approx(0.012, abs=5e-4)
    for table in tables.values():
        for note in table.notes:
            assert note.row is None or note.row in {row.method for row in table.rows}
