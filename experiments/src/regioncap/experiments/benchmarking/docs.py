"""Figures of a run written into a document, between the marks that the document has for them."""

import re
from dataclasses import replace
from pathlib import Path

from regioncap.experiments.benchmarking.figures import pipeline_figure
from regioncap.experiments.benchmarking.pipeline import pipeline_of
from regioncap.experiments.benchmarking.results import BenchResults
from regioncap.experiments.benchmarking.scaling import Curve, Exponent, curves
from regioncap.experiments.benchmarking.scaling_figure import draw_axis
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
        table = replace(pipeline_table(pipeline), note=pipeline.sum_text)  # the answer has a mark of its own
        parts |= {"pipeline": _plain(table), "answer": pipeline.answer}
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
            _ends(curve),
            _fit(curve.exponent),
            _fit(curve.last),
        )
        for curve in curves([case.record for case in results.cases])
    )
    head = ("curve", "over", "of", "from, to", "ms or MiB", "exponent", "of the last three")
    return ReportTable(title="Scale", head=head, rows=rows)


def fill_document(document: Path, results: BenchResults) -> list[str]:
    """Write the parts between `<!-- measured: NAME -->` and `<!-- end -->`, and pictures beside the document: of the
    pipeline `NAME.png`, of every axis of the curves `NAME-AXIS.png`.

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
    lines = curves([case.record for case in results.cases])
    for axis in dict.fromkeys(curve.axis for curve in lines):
        name = f"{document.stem}-{axis.replace(' ', '-').lower()}.png"
        draw_axis(lines, axis).savefig(document.with_name(name), dpi=100)
    return names


def _ends(curve: Curve) -> str:
    first, last = ((1000 if curve.quantity == "time" else 1) * curve.points[place][1] for place in (0, -1))
    return f"{first:,.3g} to {last:,.3g}"


def _fit(exponent: Exponent | None) -> str:
    return "–" if exponent is None else f"{exponent.slope:.2f} ± {exponent.error:.2f}"


def _plain(table: ReportTable) -> str:
    """A table without its title, which the document has."""
    return markdown([table]).split("\n", 2)[2].strip()
