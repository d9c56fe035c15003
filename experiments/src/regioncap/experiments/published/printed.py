"""What the paper prints in Tables 3 to 6, to the letter, with what is wrong in it: `tables.json`, read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row as printed."""

    category: str
    """The paper's; empty in the ablations."""
    method: str
    """The paper's name; empty in the ablations."""
    reference: int | None
    """Number in the paper's list of references, None for its own rows."""
    parts: tuple[str, ...]
    """Which of Baseline, GAT-LFE and MSG are ticked; empty in the comparisons."""
    printed: tuple[str, ...]
    """A cell a column: `80.8`, `* 82.9` for the paper's own, `-` for none."""

    @property
    def values(self) -> tuple[float | None, ...]:
        """The cells as numbers, in percent."""
        return tuple(None if cell == "-" else float(cell.removeprefix("* ")) for cell in self.printed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNote:
    """What a reader must know of a table that the table does not say: nothing in it is mended."""

    kind: str
    """misprint, contradiction, unusual, protocol, reading or significance."""
    row: str | None
    """The method it is about; None for the table."""
    says: str
    source: str = ""
    """Where it is known from, unless it is the paper itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """One of the paper's tables."""

    number: int
    title: str
    data: str
    """Data set and split, as the paper says."""
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    footnote: str
    """As printed below the table."""
    notes: tuple[PublishedNote, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """All of them."""

    source: str
    address: str
    tables: Mapping[int, PublishedTable]
    references: Mapping[int, str]
    """The paper's references that its tables cite."""


def read_published() -> Published:
    """The tables that come with this package."""
    stored = json.loads((files(__package__) / "tables.json").read_text(encoding="utf-8"))
    return Published(
        source=stored["source"],
        address=stored["address"],
        tables={table["number"]: _table(table) for table in stored["tables"]},
        references={int(number): text for number, text in stored["references"].items()},
    )


def _table(stored: Mapping[str, Any]) -> PublishedTable:
    return PublishedTable(
        number=stored["number"],
        title=stored["title"],
        data=stored["data"],
        columns=tuple(stored["columns"]),
        rows=tuple(
            PublishedRow(
                category=row.get("category", ""),
                method=row.get("method", ""),
                reference=row.get("reference"),
                parts=tuple(row.get("parts", ())),
                printed=tuple(row["printed"]),
            )
            for row in stored["rows"]
        ),
        footnote=stored["footnote"],
        notes=tuple(PublishedNote(**note) for note in stored["notes"]),
    )
