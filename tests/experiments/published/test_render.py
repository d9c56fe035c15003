"""The same cells in all four forms."""

import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from regioncap.experiments.published.layout import TICK, LaidOutTable, lay_out
from regioncap.experiments.published.measured import MeasuredBlock, MeasuredRow
from regioncap.experiments.published.printed import read_published
from regioncap.experiments.published.render import print_tables, tables_html, tables_latex, tables_markdown
from regioncap.experiments.statistics import Spread


@pytest.fixture(scope="module")
def tables() -> tuple[LaidOutTable, ...]:
    names = ("baseline", "+graph", "+graph+guidance", "a_b & <c> 5%")
    rows = [
        MeasuredRow(
            name=name,
            metrics={"CIDEr": Spread(values=(0.1 * at, 0.2 * at)), "BLEU-4": Spread(values=(0.3, 0.3))},
            seeds=2,
            missing={"SPICE": "needs `jars` & <more>"},
        )
        for at, name in enumerate(names, start=1)
    ]
    return lay_out(read_published(), [MeasuredBlock(label="photos | 100 images, 50 % mine", rows=tuple(rows))])


def test_terminal_cuts_nothing(tables):
    console = Console(file=io.StringIO(), width=40)
    print_tables(tables, console)
    text = console.file.getvalue()
    assert "…" not in text
    for table in tables:
        for block in table.blocks:
            for row in block.rows:
                line = r"\s+".join(re.escape(cell) for cell in row if cell)
                assert re.search(line, text), row


def test_markdown_has_as_many_cells_in_every_row_and_bold_where_the_best_is(tables):
    page = tables_markdown(tables, "the paper")
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in lines]
    expected = [len(table.head) for table in tables for _ in range(2 + sum(1 + len(b.rows) for b in table.blocks))]
    assert widths == expected
    assert page.count("**") == 2 * sum(len(block.best) for table in tables for block in table.blocks)
    assert "**\\* 156.7**" in page
    assert "photos \\| 100 images" in page
    assert "[27] Cornia" in page


def test_latex_is_whole(tables):
    text = tables_latex(tables, "the paper")
    lines = [line for line in text.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    cells = [len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines]
    assert cells == [len(table.head) for table in tables for _ in range(1 + sum(len(b.rows) for b in table.blocks))]
    for part in ("table", "tabular"):
        assert text.count(f"\\begin{{{part}}}") == text.count(f"\\end{{{part}}}") == 4
    assert text.count("\\toprule") == text.count("\\bottomrule") == 4
    assert text.count("\\textbf{") == sum(len(block.best) for table in tables for block in table.blocks)
    assert "a\\_b \\& $<$c$>$ 5\\%" in text
    assert TICK not in text
    plain = [line for line in text.splitlines() if not line.startswith("%")]
    assert all(line.isascii() for line in plain), [line for line in plain if not line.isascii()]


def test_latex_compiles(tables, tmp_path: Path):
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex on PATH to compile the tables with")
    body = tables_latex(tables, "the paper")
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs,graphicx}}\\begin{{document}}\n{body}\\end{{document}}"
    )
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


class Cells(HTMLParser):
    """Texts of all cells, and of those that are best."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.best = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "td":
            self.texts.append("")
            self.best += "best" in (dict(attrs).get("class") or "")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "td":
            self.texts[-1] += data


def test_page_holds_every_cell_and_neither_script_nor_network(tables):
    page = tables_html(tables, "the <paper>", "https://doi.org/x")
    found = Cells(page)
    assert found.texts == [cell for table in tables for block in table.blocks for row in block.rows for cell in row]
    assert found.best == sum(len(block.best) for table in tables for block in table.blocks)
    assert not {"script", "img", "link"} & set(found.tags)
    assert "the &lt;paper&gt;" in page
    assert "photos | 100 images" in page
