"""A report as Markdown and as LaTeX, for a paper and its repository."""

from regioncap.experiments.benchmarking.tables import all_tables
from regioncap.experiments.report import table_markdown
from regioncap.experiments.reporting.content import Report
from regioncap.experiments.reporting.tables import ReportTable, latex, markdown


def report_markdown(report: Report) -> str:
    """The study's table with its legend, then costs, trials and latencies."""
    start = table_markdown(report.rows, report.title, report.notes) if report.rows else f"# {report.title}\n"
    command = f"\n```\n{report.command}\n```\n" if report.command else ""
    tables = _tables(report)
    return start + command + ("\n" + markdown(tables) if tables else "")


def report_latex(report: Report) -> str:
    """A `tabular` for each table, for the booktabs package; the best mean of each metric is bold."""
    parts = [latex(report.table, report.best)] if report.rows else []
    return "\n".join([*parts, *(latex(table) for table in _tables(report))])


def _tables(report: Report) -> list[ReportTable]:
    return [*report.tables, *(all_tables(report.bench) if report.bench else ())]
