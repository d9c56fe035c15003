"""Tables of a report, written once and shown in three ways: on the page, in Markdown and in LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """Rows of text below a title; the first column names, the others are figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """What the reader must know to read it."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"table {self.title!r}: a row of {len(row)} cells under {len(self.head)} heads: {row}")


def markdown(tables: Sequence[ReportTable]) -> str:
    """Each with a heading of the second level."""
    parts = []
    for table in tables:
        lines = [f"## {table.title}", "", _pipes(table.head), _pipes(["---", *["---:"] * (len(table.head) - 1)])]
        lines += [_pipes(row) for row in table.rows]
        parts.append("\n".join(lines) + (f"\n\n{table.note}" if table.note else ""))
    return "\n\n".join(parts) + "\n" if parts else ""


def latex(table: ReportTable, best: Sequence[frozenset[int]] = ()) -> str:
    """A `tabular` for the booktabs package; `best` names, for each column, the rows whose cell is bold."""
    lines = [f"% {table.title}", *(f"% {line}" for line in table.note.splitlines())]
    lines += [f"\\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}", "\\toprule", _tex_row(table.head), "\\midrule"]
    for number, row in enumerate(table.rows):
        cells = [tex(cell) for cell in row]
        for column, rows in enumerate(best):
            if number in rows:
                cells[column] = f"\\textbf{{{cells[column]}}}"
        lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def tex(text: str) -> str:
    """Text as LaTeX prints it."""
    signs = {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "<": "$<$", ">": "$>$",
        "α": r"$\alpha$", "λ": r"$\lambda$", "σ": r"$\sigma$",
    }  # fmt: skip
    return "".join(signs.get(sign, sign) for sign in text)


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(tex(cell) for cell in cells) + " \\\\"


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
