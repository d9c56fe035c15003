"""`regioncap tables`: studies in; Tables 3 to 6 out, on the terminal, in Markdown, LaTeX and HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from regioncap.experiments.published.layout import LaidOutTable, lay_out
from regioncap.experiments.published.measured import read_measured
from regioncap.experiments.published.printed import read_published
from regioncap.experiments.published.render import print_tables, tables_html, tables_latex, tables_markdown
from regioncap.experiments.scoring.whole_file import check_target, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesOptions:
    """Where the tables go."""

    out: Path | None = None
    """Folder for tables.md, tables.tex (booktabs) and tables.html; None prints them alone."""
    labels: tuple[str, ...] = ()
    """What images each of the studies is of, such as "MSCOCO, Karpathy test, 5,000 images"; without it its title."""
    numbers: tuple[int, ...] = (3, 4, 5, 6)
    """Which of the paper's tables."""

    def __post_init__(self) -> None:
        unknown = [number for number in self.numbers if number not in (3, 4, 5, 6)]
        if unknown or not self.numbers:
            raise ValueError(f"--numbers must be some of 3, 4, 5, 6, got {', '.join(map(str, self.numbers)) or 'none'}")


def make_tables(places: Sequence[Path], options: TablesOptions) -> tuple[LaidOutTable, ...]:
    """Read, lay out, print and write. Without `places` the tables hold the published rows alone.

    Raises ValueError if a place holds no scores, or labels are not one a place.
    """
    if options.labels and len(options.labels) != len(places):
        raise ValueError(f"--labels must be one a study: got {len(options.labels)} for {len(places)}")
    targets = [options.out / f"tables.{form}" for form in ("md", "tex", "html")] if options.out else []
    for target in targets:
        check_target(target)
    labels = options.labels or [""] * len(places)
    measured = [read_measured(place, label) for place, label in zip(places, labels, strict=True)]
    published = read_published()
    tables = tuple(table for table in lay_out(published, measured) if table.number in options.numbers)
    print_tables(tables, Console())
    texts = (
        tables_markdown(tables, f"{published.source}. {published.address}"),
        tables_latex(tables, f"{published.source}. {published.address}"),
        tables_html(tables, published.source, published.address),
    )
    for target, text in zip(targets, texts, strict=False):
        write_whole(target, text)
        print(target)
    return tables
