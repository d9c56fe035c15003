"""Figures of a run written into a document, between the marks that the document has for them."""

import re
from pathlib import Path

from regioncap.experiments.benchmarking.curves import curves_of
from regioncap.experiments.benchmarking.figures import pipeline_figure
from regioncap.experiments.benchmarking.pipeline import pipeline_of
from regioncap.experiments.benchmarking.results import BenchResults
from regioncap.experiments.benchmarking.tables import pipeline_table, ratio_table, stage_tables
from regioncap.experiments.reporting.tables import ReportTable, markdown
from regioncap.experiments.scoring.whole_file import write_whole

_MARK = "<!-- measured: {} -->"
_END = "<!-- end -->"


def measured_parts(results: BenchResults) -> dict[str, str]:
    """Mark -> Markdown: machine, pipeline, answer, stages, peers, scale."""
    pipeline = pipeline_of(results)
    parts = {"machine": f"Measured {results.started}, {results.set} set, on {results.machine.describe()}."}
    if pipeline is not None:
        parts |= {"pipeline": _plain(pipeline_table(pipeline)), "answer": pipeline.answer}
    parts["stages"] = markdown(stage_tables(results)).strip().replace("## ", "### ")
    parts["peers"] = _plain(ratio_table(results))
    parts["scale"] = _plain(exponent_table(results))
    return parts


def exponent_table(results: BenchResults) -> ReportTable:
    """Every curve with its ends and its exponent."""
    rows = tuple(
        (
            curve.name,
            curve.axis,
            curve.quantity,
            f"{curve.points[0][0]:g} to {curve.points[-1][0]:g}",
            f"{curve.points[0][1]:,.3g} to {curve.points[-1][1]:,.3g}",
            "–" if curve.exponent is None else f"{curve.exponent:.2f}",
        )
        for curve in curves_of([case.record for case in results.cases])
    )
    return ReportTable(title="Scale", head=("curve", "over", "of", "from, to", "ms or MiB", "exponent"), rows=rows)


def fill_document(document: Path, results: BenchResults) -> list[str]:
    """Write the parts between `<!-- measured: NAME -->` and `<!-- end -->`, and the pipeline's picture beside it.

    Returns the names of the marks that were filled. Raises ValueError if the document has no mark, or an unknown one.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{document} cannot be read ({error.strerror}): name a document with marks") from error
    parts = measured_parts(results)
    names = re.findall(_MARK.format(r"([a-z]+)"), text)
    unknown = [name for name in names if name not in parts]
    if unknown or not names:
        found = f"the mark {unknown[0]!r}" if unknown else "no mark"
        raise ValueError(f"{document} has {found}; this run fills {_MARK.format('NAME')} of {', '.join(parts)}")
    for name in names:
        whole = re.compile(f"({re.escape(_MARK.format(name))}\n).*?({re.escape(_END)})", re.DOTALL)
        if not whole.search(text):
            raise ValueError(f"{document}: the mark {name!r} wants {_END} on a line behind it")
        text = whole.sub(lambda found, part=parts[name]: f"{found[1]}{part}\n{found[2]}", text, count=1)  # type: ignore[misc]
    write_whole(document, text)
    if (pipeline := pipeline_of(results)) is not None:
        pipeline_figure(pipeline).savefig(document.with_suffix(".png"), dpi=120)
    return names


def _plain(table: ReportTable) -> str:
    """A table without its title, which the document has."""
    return markdown([table]).split("\n", 2)[2].strip()
