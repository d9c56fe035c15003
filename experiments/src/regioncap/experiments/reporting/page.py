"""A report as one HTML file that asks the network for nothing."""

from importlib.metadata import version
from importlib.resources import files
from typing import Any

from regioncap.experiments.arms import ARMS
from regioncap.experiments.benchmarking.page import BENCH_ASSETS, bench_data
from regioncap.experiments.metrics import METRICS
from regioncap.experiments.overlay import PALETTE
from regioncap.experiments.report import StudyRow, cell_text, p_cell, table_legend
from regioncap.experiments.reporting.content import Report
from regioncap.experiments.scoring.page import ASSETS, fill_page


def report_page(report: Report) -> str:
    """The page. Its scripts and styles are allowed by their hash alone, so no caption can become one."""
    own = files("regioncap.experiments.reporting") / "assets"
    styles = [ASSETS / "page.css", own / "report.css", BENCH_ASSETS / "bench.css"]
    scripts = [ASSETS / "drawing.js", own / "sections.js", own / "report.js", own / "evidence.js", own / "gallery.js"]
    scripts += [BENCH_ASSETS / "bench.js", own / "start.js"]
    return fill_page(report_data(report), styles, scripts, own / "report.html")


def report_data(report: Report) -> dict[str, Any]:
    """What the page holds, in percent, as its script reads it."""
    metrics = [metric for metric in METRICS if any(metric in row.metrics for row in report.rows)]
    best = dict(zip(report.table.head, report.best, strict=True)) if report.rows else {}
    return {
        "version": version("regioncap"),
        "title": report.title,
        "command": report.command,
        "arms": [_arm(row) for row in report.rows],
        "metrics": metrics,
        "table": {
            metric: [
                {"value": cell_text(row, metric, " ± "), "best": number in best[metric]}
                for number, row in enumerate(report.rows)
            ]
            for metric in metrics
        },
        "bars": {metric: [_bar(row, metric) for row in report.rows] for metric in metrics},
        "legend": [*(table_legend(report.rows) if report.rows else ()), *report.notes],
        "curves": report.curves,
        "tables": [
            {"title": table.title, "head": table.head, "rows": table.rows, "note": table.note}
            for table in report.tables
        ],
        "tuning": {"name": report.tuning.name, "figures": report.tuning.figures} if report.tuning else None,
        "bench": bench_data(report.bench) if report.bench else None,
        "gallery": report.gallery or None,
        "palette": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in PALETTE],
    }


def _arm(row: StudyRow) -> dict[str, Any]:
    says = ARMS[row.arm].says if row.arm in ARMS else ""
    return {"name": row.arm, "says": says, "seeds": row.seeds, "p": p_cell(row), "against": row.against or ""}


def _bar(row: StudyRow, metric: str) -> dict[str, Any] | None:
    """Mean, spread and every seed, in percent."""
    if metric not in row.metrics:
        return None
    summary = row.metrics[metric]
    values = [round(100 * value, 3) for value in summary.values]
    return {"mean": round(100 * summary.mean, 3), "std": round(100 * summary.std, 3), "values": values}
