"""Laid-out tables on the terminal, in Markdown, in LaTeX and as a page."""

from collections.abc import Sequence
from html import escape

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regioncap.experiments.published.layout import TICK, LaidOutTable
from regioncap.experiments.reporting.tables import tex
from regioncap.experiments.scoring.page import ASSETS, style_hash


def print_tables(tables: Sequence[LaidOutTable], console: Console) -> None:
    """Each table block by block, columns below each other; none is cut, as a log file has no width."""
    for table in tables:
        cells = [table.head, *(row for block in table.blocks for row in block.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(table.head))]
        whole = Console(
            file=console.file,
            width=max(console.width, sum(widths) + 2 * len(widths) + 4),
            force_terminal=console.is_terminal,
        )
        whole.print(Text(table.title, style="bold"))
        for block in table.blocks:
            whole.print(Text(f"{block.title}. {block.remark}", style="italic"))
            grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for column, name in enumerate(table.head):
                left = column < table.texts
                grid.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=widths[column])
            for number, row in enumerate(block.rows):
                grid.add_row(*(Text(cell, style=_green((number, at) in block.best)) for at, cell in enumerate(row)))
            whole.print(grid)
        for note in table.notes:
            whole.print(Text(f"- {note}", style="dim"))
        whole.print()


def tables_markdown(tables: Sequence[LaidOutTable], source: str) -> str:
    """A Markdown page: a heading, table, notes and references for each."""
    lines = ["# Tables 3 to 6", "", f"Published rows: {source}", ""]
    for table in tables:
        lines += [f"## {table.title}", "", _pipes(table.head)]
        lines.append(_pipes([*["---"] * table.texts, *["---:"] * (len(table.head) - table.texts)]))
        for block in table.blocks:
            lines.append(_pipes([f"*{block.title}. {block.remark}*", *[""] * (len(table.head) - 1)]))
            for number, row in enumerate(block.rows):
                cells = [cell.replace("*", "\\*") for cell in row]
                lines.append(
                    _pipes([f"**{cell}**" if (number, at) in block.best else cell for at, cell in enumerate(cells)])
                )
        lines += ["", *(f"- {note}" for note in table.notes), ""]
        lines += [*(f"  {reference}\\" for reference in table.references), ""] if table.references else []
    return "\n".join(lines)


def tables_latex(tables: Sequence[LaidOutTable], source: str) -> str:
    """A `table` for each, as wide as the line, for the packages booktabs and graphicx.

    Notes and references are comments.
    """
    lines = [f"% Published rows: {source}", "% \\usepackage{booktabs,graphicx}"]
    for table in tables:
        width = len(table.head)
        lines += ["", *(f"% {line}" for line in (*table.notes, *table.references))]
        lines += ["\\begin{table}", "\\centering", f"\\caption{{{tex(table.title.split('. ', 1)[1])}.}}"]
        lines += [f"\\label{{tab:published-{table.number}}}", "\\resizebox{\\linewidth}{!}{%"]
        lines += [f"\\begin{{tabular}}{{{'l' * table.texts}{'r' * (width - table.texts)}}}", "\\toprule"]
        lines.append(" & ".join(tex(name) for name in table.head) + " \\\\")
        for block in table.blocks:
            lines.append("\\midrule")
            lines += [
                f"\\multicolumn{{{width}}}{{l}}{{\\itshape {tex(line)}}} \\\\" for line in (block.title, block.remark)
            ]
            lines.append("\\midrule")
            for number, row in enumerate(block.rows):
                cells = [_tex_cell(cell, (number, at) in block.best) for at, cell in enumerate(row)]
                lines.append(" & ".join(cells) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}}", "\\end{table}"]
    return "\n".join(lines) + "\n"


def tables_html(tables: Sequence[LaidOutTable], source: str, address: str) -> str:
    """A page in one file without script or network."""
    style = (ASSETS / "page.css").read_text(encoding="utf-8") + _STYLE
    body = []
    for table in tables:
        body.append(f"<section><h2>{escape(table.title)}</h2>")
        body.append('<div class="scroll" tabindex="0"><table><thead><tr>')
        body += [f'<th scope="col"{_left(at, table)}>{escape(name)}</th>' for at, name in enumerate(table.head)]
        body.append("</tr></thead>")
        for block in table.blocks:
            head = f"{escape(block.title)}<small>{escape(block.remark)}</small>"
            body.append(f'<tbody><tr><th class="block" colspan="{len(table.head)}">{head}</th></tr>')
            for number, row in enumerate(block.rows):
                body.append("<tr>")
                for at, cell in enumerate(row):
                    best = "best" if (number, at) in block.best else ""
                    body.append(f"<td{_left(at, table, best)}>{escape(cell)}</td>")
                body.append("</tr>")
            body.append("</tbody>")
        body.append("</table></div>" + _list(table.notes, "notes quiet") + _list(table.references, "references quiet"))
        body.append("</section>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src '{style_hash(style)}'; base-uri 'none'; form-action 'none'\">\n"
        f"<title>Tables 3 to 6</title>\n<style>{style}</style>\n</head>\n<body>\n<header><h1>Tables 3 to 6</h1>\n"
        f'<p class="quiet">Published rows: <a href="{escape(address)}">{escape(source)}</a></p></header>\n'
        f"<main>{''.join(body)}</main>\n</body>\n</html>\n"
    )


_STYLE = """
th, td { padding: 0.3em 0.5em; white-space: nowrap; }
td.text, th.text { text-align: left; }
td.text { white-space: normal; }
td.best { color: var(--best); font-weight: 700; }
th.block { text-align: left; font-weight: 600; white-space: normal; padding-top: 1.2em; }
th.block small { display: block; font-weight: 400; font-style: italic; }
.references { list-style: none; padding-left: 0; font-size: 0.85em; }
"""


def _green(best: bool) -> str:
    return "bold green" if best else ""


def _left(at: int, table: LaidOutTable, more: str = "") -> str:
    names = " ".join(filter(None, ["text" if at < table.texts else "", more]))
    return f' class="{names}"' if names else ""


def _list(lines: Sequence[str], kind: str) -> str:
    return f'<ul class="{kind}">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _tex_cell(cell: str, best: bool) -> str:
    text = "$\\surd$" if cell == TICK else tex(cell)
    return f"\\textbf{{{text}}}" if best else text


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
