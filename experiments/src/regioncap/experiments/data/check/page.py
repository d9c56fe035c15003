"""The health report as one HTML file that asks the network for nothing and runs no script."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from PIL import Image

from regioncap.experiments.data.check.findings import Finding, Table, findings, tables, verdict
from regioncap.experiments.data.check.health import Health

_ASSETS = files("regioncap.experiments.data.check") / "assets"
_WRITTEN = 200
"""Items of a finding."""
_WIDTH, _HEIGHT, _FOOT = 900, 200, 26
"""Of the histogram, in its own units."""
_LABELS = 15
"""Most labels below its bars."""
_QUALITY = 85


def health_page(health: Health, sheet: Image.Image) -> str:
    """The page. All text in it is escaped, and the browser is told to run nothing."""
    parts = [
        _section("What stops training", _list(health.problems), kind="problems") if health.problems else "",
        *(_section(table.title, _table(table), kind="table") for table in tables(health)),
        _section("Captions by their number of words", _histogram(health.captions.lengths)),
        _section("Most frequent words", _words(health.captions.most_frequent)),
        *(_section(f"{finding.title}: {len(finding.items):,}", _finding(finding)) for finding in findings(health)),
        _section("Some of the pictures", f'<img alt="contact sheet" src="{_address(sheet)}">'),
    ]
    marks = {
        "{{style}}": (_ASSETS / "health.css").read_text(encoding="utf-8"),
        "{{title}}": escape(f"{health.name}: health of a data set"),
        "{{name}}": escape(health.name),
        "{{place}}": escape(f"{health.kind}, {health.root}"),
        "{{kind}}": "bad" if health.problems else "good",
        "{{verdict}}": escape(verdict(health)),
        "{{parts}}": "\n".join(filter(None, parts)),
    }
    page = (_ASSETS / "health.html").read_text(encoding="utf-8")
    for mark, part in marks.items():  # what is put in last may hold anything
        page = page.replace(mark, part, 1)
    return page


def _section(title: str, body: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{body}</section>'


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def _finding(finding: Finding) -> str:
    more = len(finding.items) - _WRITTEN
    shown = [*finding.items[:_WRITTEN], *([f"... and {more:,} more"] if more > 0 else [])]
    return f"<details{' open' if len(shown) <= 10 else ''}><summary>which</summary>{_list(shown)}</details>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _histogram(lengths: Mapping[int, int]) -> str:
    """Bars from the shortest to the longest, empty lengths too."""
    if not lengths:
        return "<p>There is no caption.</p>"
    first, last = min(lengths), max(lengths)
    step, top = _WIDTH / (last - first + 1), max(lengths.values())
    every = -(-(last - first + 1) // _LABELS)
    bars = []
    for length in range(first, last + 1):
        count = lengths.get(length, 0)
        height, left = _HEIGHT * count / top, (length - first) * step
        bars.append(
            f'<rect x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{max(step - 1, 0.5):.1f}" height="{height:.1f}">'
            f"<title>{length} words: {count:,} captions</title></rect>"
        )
        if (length - first) % every == 0:
            bars.append(f'<text x="{left + step / 2:.1f}" y="{_HEIGHT + 18}">{length}</text>')
    label = f"{sum(lengths.values()):,} captions by their number of words, {first} to {last}"
    box = f"0 0 {_WIDTH} {_HEIGHT + _FOOT}"
    return f'<svg viewBox="{box}" role="img" aria-label="{label}">{"".join(bars)}</svg>'


def _words(counted: Sequence[tuple[str, int]]) -> str:
    words = ", ".join(f"{escape(word)} <small>{count:,}</small>" for word, count in counted)
    return f"<p>{words or 'There is none.'}</p>"


def _address(sheet: Image.Image) -> str:
    jpeg = io.BytesIO()
    sheet.save(jpeg, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
