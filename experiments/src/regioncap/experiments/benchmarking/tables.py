"""Results as tables: for the page, and for documents."""

from collections.abc import Sequence

from regioncap.experiments.benchmarking.pipeline import Pipeline, pipeline_of
from regioncap.experiments.benchmarking.record import StageRecord
from regioncap.experiments.benchmarking.results import BenchResults, CaseResult, by_stage
from regioncap.experiments.reporting.tables import ReportTable

_NONE = "–"


def all_tables(results: BenchResults) -> list[ReportTable]:
    """The pipeline, every stage, peers."""
    pipeline, ratios = pipeline_of(results), ratio_table(results)
    tables = [] if pipeline is None else [pipeline_table(pipeline)]
    return [*tables, *stage_tables(results), *([ratios] if ratios.rows else [])]


def pipeline_table(pipeline: Pipeline) -> ReportTable:
    """Stage by stage, an image's share of a batch."""
    rows = tuple(
        (
            stage,
            f"{pipeline.ms(stage):,.2f}",
            f"{pipeline.share([stage]):.1%}",
            f"{pipeline.mib[stage]:,.0f}" if stage in pipeline.mib else _NONE,
        )
        for stage in pipeline.seconds
    )
    head = ("stage", "ms an image", "share", "peak, MiB")
    note = " ".join(text for text in (pipeline.sum_text, pipeline.answer) if text)
    return ReportTable(title=f"The pipeline, batch {pipeline.images}", head=head, rows=rows, note=note)


def stage_tables(results: BenchResults) -> list[ReportTable]:
    """A table a stage, of the cases that are no points of a curve."""
    cases = [case for case in results.cases if case.record.point is None]
    return [
        ReportTable(title=stage, head=_HEAD, rows=tuple(_row(case.record) for case in own), note=_sizes(own))
        for stage, own in by_stage(cases).items()
    ]


def ratio_table(results: BenchResults) -> ReportTable:
    """Every peer, in the order of the stages."""
    rows = tuple(
        (case.name, ratio.peer, ratio.quantity, f"{ratio.median:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}")
        for own in by_stage(results.cases).values()
        for case in own
        for ratio in case.peers
    )
    note = "Median over rounds in which both take turns, and quartiles; above 1 ours is the better."
    return ReportTable(
        title="Peers over ours", head=("case", "peer", "of", "median", "quartiles"), rows=rows, note=note
    )


_HEAD = ("case", "batch", "p50, ms", "p95, ms", "images/s", "peak, MiB", "parameters", "GFLOPs", "of peak")


def _row(record: StageRecord) -> tuple[str, ...]:
    return (
        f"{record.case}{' (null stage)' if record.null else ''}",
        f"{record.images}",
        _short(1000 * record.p50_s),
        _short(1000 * record.p95_s),
        _short(record.images_per_s),
        _NONE if record.peak_mib is None else f"{record.peak_mib:,.1f}",
        _count(record.parameters),
        _NONE if record.flops is None else _short(record.flops / 1e9),
        _NONE if record.peak_share is None else f"{record.peak_share:.0%}",
    )


def _short(value: float) -> str:
    """Three digits, and no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.6f}".rstrip("0")


def _count(parameters: int) -> str:
    if parameters >= 1e6:
        return f"{parameters / 1e6:,.1f} M"
    return f"{parameters:,}" if parameters else _NONE


def _sizes(cases: Sequence[CaseResult]) -> str:
    """The sizes that all cases share."""
    shared = dict(cases[0].record.sizes)
    for case in cases[1:]:
        shared = {name: size for name, size in shared.items() if case.record.sizes.get(name) == size}
    return ", ".join(f"{name} {size}" for name, size in shared.items())
