"""Tables 3 to 6 laid out: the published rows, and below them, apart, the measured ones. Text only: see `render`."""

from collections.abc import Sequence
from dataclasses import dataclass

from regioncap.experiments.published.measured import METRIC_OF, PARTS_OF, MeasuredBlock, MeasuredRow
from regioncap.experiments.published.printed import Published, PublishedNote, PublishedTable
from regioncap.experiments.scoring.table import percent
from regioncap.experiments.statistics import Spread

PARTS = ("Baseline", "GAT-LFE", "MSG")
TICK = "✓"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows that may be compared with each other."""

    title: str
    remark: str
    """Of which images the rows are, or what they may be compared with."""
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]
    """Row and column of the cells that print the highest value of their column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOutTable:
    """One table, ready to be written in any form."""

    number: int
    title: str
    head: tuple[str, ...]
    texts: int
    """How many columns, from the left, are text; the others are figures."""
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    references: tuple[str, ...]
    """What the published rows are cited from."""


def lay_out(published: Published, measured: Sequence[MeasuredBlock]) -> tuple[LaidOutTable, ...]:
    """The four tables. In each the published rows stand as printed, and every measured block below says that it is of
    other images. The best of a column is that of its block."""
    return tuple(_table(table, published, measured) for table in published.tables.values())


def _table(table: PublishedTable, published: Published, measured: Sequence[MeasuredBlock]) -> LaidOutTable:
    ablation = any(row.parts for row in table.rows)
    texts = 1 + len(PARTS) if ablation else 2
    blocks = [_published(table, texts)]
    shown: list[MeasuredRow] = []
    for block in measured:
        rows = [row for row in block.rows if (row.ablates if ablation else row.competes)]
        if rows:
            blocks.append(_measured(block.label, rows, table.columns, ablation))
            shown += rows
    cited = sorted({row.reference for row in table.rows if row.reference is not None})
    return LaidOutTable(
        number=table.number,
        title=f"Table {table.number}. {table.title}",
        head=(*(("Row", *PARTS) if ablation else ("Category", "Method")), *table.columns),
        texts=texts,
        blocks=tuple(blocks),
        notes=(*_notes(table), *_measured_notes(shown, table.columns)),
        references=tuple(f"[{number}] {published.references[number]}" for number in cited),
    )


def _published(table: PublishedTable, texts: int) -> Block:
    rows, last = [], ""
    for number, row in enumerate(table.rows, start=1):
        if row.parts:
            head = [f"row {number}", *_ticks(row.parts)]
        else:
            name = f"{row.method} [{row.reference}]" if row.reference is not None else row.method
            head = ["" if row.category == last else row.category, name]
            last = row.category
        rows.append((*head, *row.printed))
    values = [row.values for row in table.rows]
    return Block(
        title=f"As printed in Wang et al. 2025, Table {table.number}",
        remark=table.data,
        rows=tuple(rows),
        best=_best(values, texts),
    )


def _measured(label: str, measured: Sequence[MeasuredRow], columns: tuple[str, ...], ablation: bool) -> Block:
    rows, values = [], []
    for row in measured:
        name = f"{row.name} ({row.seeds} {'seed' if row.seeds == 1 else 'seeds'})"
        spreads = [row.column(column, columns) for column in columns]
        head = [name, *_ticks(PARTS_OF.get(row.name, ()))] if ablation else ["", name]
        rows.append((*head, *(_cell(spread) for spread in spreads)))
        values.append([None if spread is None else round(100 * spread.mean, 1) for spread in spreads])
    return Block(
        title=f"Measured with RegionCap on {label}",
        remark="Other images than the rows above: compare within this block only",
        rows=tuple(rows),
        best=_best(values, len(rows[0]) - len(columns)),
    )


def _ticks(parts: Sequence[str]) -> list[str]:
    return [TICK if part in parts else "" for part in PARTS]


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "n/a"
    return percent(spread.mean) + (f" ± {percent(spread.std)}" if len(spread.values) > 1 else "")


def _best(values: Sequence[Sequence[float | None]], texts: int) -> frozenset[tuple[int, int]]:
    """Cells of the highest value of each column; none in a column where all are alike."""
    best = set()
    for column, cells in enumerate(zip(*values, strict=True)):
        known = [value for value in cells if value is not None]
        if len(set(known)) > 1:
            best |= {(row, texts + column) for row, value in enumerate(cells) if value == max(known)}
    return frozenset(best)


def _notes(table: PublishedTable) -> list[str]:
    return [f"The paper's note: {table.footnote}", *(_note(note) for note in table.notes)]


def _note(note: PublishedNote) -> str:
    about = f", {note.row}" if note.row else ""
    source = f" ({note.source})" if note.source else ""
    return f"{note.kind.capitalize()}{about}: {note.says}{source}"


def _measured_notes(rows: Sequence[MeasuredRow], columns: Sequence[str]) -> list[str]:
    notes = []
    if rows:
        spread = ", mean ± standard deviation over seeds" if any(row.seeds > 1 for row in rows) else ""
        notes.append(f"Measured rows: percent{spread}; bold is the best of a block's column.")
        if "SUM" in columns:
            summed = " + ".join(column for column in columns if column != "SUM")
            notes.append(f"Measured SUM: {summed}, n/a where one of them is.")
    why = {f"{m} n/a: {row.missing[m]}" for row in rows for m in row.missing if m in map(METRIC_OF.get, columns)}
    return notes + sorted(why)
