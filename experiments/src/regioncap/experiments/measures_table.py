"""The measures beside the metrics as a table of their own: on the terminal and in Markdown."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regioncap.experiments.metrics import MEASURES

MEASURES_TITLE = "Beside the metrics"

Rows = Mapping[str, Mapping[str, str]]
"""Captioner -> measure (of MEASURES) -> the value as printed (`measure_text`)."""


def print_measures(rows: Rows, missing: Mapping[str, str], console: Console) -> None:
    """The table and its legend; nothing where nothing was measured. Columns are never cut."""
    names = _columns(rows)
    if not names:
        return
    table = Table(title=MEASURES_TITLE, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("captions of", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for captioner, texts in rows.items():
        table.add_row(Text(captioner), *(texts.get(name, "n/a") for name in names))
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    whole = Console(file=console.file, width=max(console.width, needed), force_terminal=console.is_terminal)
    whole.print(table)
    for line in measures_legend(rows, missing):
        whole.print(Text(line, style="dim"))


def measures_markdown(rows: Rows, missing: Mapping[str, str]) -> list[str]:
    """The lines of the table below a heading, and the legend; none where nothing was measured."""
    names = _columns(rows)
    if not names:
        return []
    lines = [f"## {MEASURES_TITLE}", "", _pipes(["captions of", *names]), _pipes(["---", *["---:"] * len(names)])]
    lines += [_pipes([captioner, *(texts.get(name, "n/a") for name in names)]) for captioner, texts in rows.items()]
    return [*lines, "", *(f"- {line}" for line in measures_legend(rows, missing))]


def measures_legend(rows: Rows, missing: Mapping[str, str]) -> list[str]:
    """What each measure counts and where better lies, and why others are not there."""
    counted = []
    for name in _columns(rows):
        measure = MEASURES[name]
        unit = "words" if measure.unit == "words" else "%"
        better = f", {measure.better} is better" if measure.better else ""
        counted.append(f"{name}: {measure.says} ({unit}{better})")
    reasons: dict[str, list[str]] = {}
    for name, why in missing.items():
        reasons.setdefault(why, []).append(name)
    return [f"{'; '.join(counted)}.", *(f"{', '.join(names)} n/a: {why}" for why, names in reasons.items())]


def _columns(rows: Rows) -> Sequence[str]:
    return [name for name in MEASURES if any(name in texts for texts in rows.values())]


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
