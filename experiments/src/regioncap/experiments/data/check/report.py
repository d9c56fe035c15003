"""The health report in a terminal and as Markdown."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid

from regioncap.experiments.data.check.findings import Finding, Table, findings, tables, verdict
from regioncap.experiments.data.check.health import Health

_TOLD = 5
"""Items of a finding in a terminal; the files have more."""
_WRITTEN = 100
_BAR = 40
"""Signs of the longest bar."""


def print_health(health: Health, console: Console | None = None) -> None:
    """Write it for a person who looks at a terminal."""
    console = console or Console()
    console.print(_title(health), style="bold", markup=False, highlight=False)
    for table in tables(health):
        grid = Grid(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            grid.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    for finding in findings(health):
        console.print(f"{finding.title}: {len(finding.items):,}", style="yellow", markup=False, highlight=False)
        for line in _some(finding, _TOLD):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    for problem in health.problems:
        console.print(f"stops training: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    style = "bold red" if health.problems else "bold green"
    console.print(verdict(health), style=style, markup=False, highlight=False)


def markdown(health: Health, sheet: str) -> str:
    """The report as a Markdown file; `sheet` is the address of the contact sheet."""
    parts = [f"# {_title(health)}", verdict(health)]
    if health.problems:
        parts.append("\n".join(["## What stops training", "", *(f"- {_escape(line)}" for line in health.problems)]))
    parts += [_markdown_table(table) for table in tables(health)]
    parts.append(_histogram(health))
    parts += [
        "\n".join(
            [f"## {finding.title}: {len(finding.items):,}", "", *(f"- {_escape(x)}" for x in _some(finding, _WRITTEN))]
        )
        for finding in findings(health)
    ]
    parts.append(f"## Some of the pictures\n\n![contact sheet]({sheet})")
    return "\n\n".join(parts) + "\n"


def _title(health: Health) -> str:
    return f"Data set {health.name} ({health.kind}): {health.root}"


def _some(finding: Finding, most: int) -> Sequence[str]:
    more = len(finding.items) - most
    return [*finding.items[:most], *([f"... and {more:,} more"] if more > 0 else [])]


def _markdown_table(table: Table) -> str:
    rule = "|".join(["---", *("---:" for _ in table.columns[1:])])
    lines = [f"| {' | '.join(map(_escape, row))} |" for row in (table.columns, *table.rows)]
    return "\n".join([f"## {table.title}", "", lines[0], f"|{rule}|", *lines[1:]])


def _histogram(health: Health) -> str:
    lengths = health.captions.lengths
    top = max(lengths.values(), default=1)
    lines = [f"{length:>4} {'#' * max(1, round(_BAR * count / top))} {count:,}" for length, count in lengths.items()]
    return "\n".join(["## Captions by their number of words", "", "```", *lines, "```"])


def _escape(text: str) -> str:
    """Text that is no Markdown, on one line."""
    for sign in "\\|*_`[]<>#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
