"""A run of the benchmarks as one HTML page that asks the network for nothing; a study's report holds the same."""

from importlib.metadata import version
from importlib.resources import files
from typing import Any

from regioncap.experiments.benchmarking.pipeline import ENCODERS, Pipeline, pipeline_of
from regioncap.experiments.benchmarking.record import STAGES
from regioncap.experiments.benchmarking.results import BenchResults, by_stage
from regioncap.experiments.benchmarking.scaling import Curve, curves
from regioncap.experiments.benchmarking.tables import stage_tables
from regioncap.experiments.scoring.page import ASSETS, fill_page

BENCH_ASSETS = files("regioncap.experiments.benchmarking") / "assets"
_REPORT = files("regioncap.experiments.reporting") / "assets"
_QUANTITIES = {"time": "CPU milliseconds of a call", "memory": "MiB that a call adds"}


def bench_page(results: BenchResults) -> str:
    """The page. Its scripts and styles are allowed by their hash alone."""
    styles = [ASSETS / "page.css", _REPORT / "report.css", BENCH_ASSETS / "bench.css"]
    scripts = [
        ASSETS / "drawing.js",
        _REPORT / "sections.js",
        BENCH_ASSETS / "bench.js",
        BENCH_ASSETS / "bench_start.js",
    ]
    data = {"version": version("regioncap"), "bench": bench_data(results)}
    return fill_page(data, styles, scripts, BENCH_ASSETS / "bench.html")


def bench_data(results: BenchResults) -> dict[str, Any]:
    """What pages hold of a run, as `bench.js` reads it."""
    pipeline = pipeline_of(results)
    tables = [
        {"title": table.title, "head": table.head, "rows": table.rows, "note": table.note}
        for table in stage_tables(results)
    ]
    return {
        "started": results.started,
        "set": results.set,
        "machine": results.machine.describe(),
        "failed": [f"{file}: {why}" for file, why in results.failed.items()],
        "pipeline": None if pipeline is None else _pipeline(pipeline),
        "ratios": _ratios(results),
        "axes": _axes(results),
        "tables": tables,
    }


def _pipeline(pipeline: Pipeline) -> dict[str, Any]:
    stages = [
        {
            "name": stage,
            "ms": pipeline.ms(stage),
            "share": pipeline.share([stage]),
            "place": STAGES.index(stage),
        }
        for stage in pipeline.seconds
    ]
    stored = [0.0 if stage in ENCODERS else pipeline.share([stage], without=ENCODERS) for stage in pipeline.seconds]
    return {
        "images": pipeline.images,
        "stages": stages,
        "rows": [
            {"name": "whole", "shares": [own["share"] for own in stages]},
            {"name": "features stored", "shares": stored},
        ],
        "said": pipeline.sum_text,
        "answer": pipeline.answer,
    }


def _ratios(results: BenchResults) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{case.name}: {ratio.peer}{' (memory)' if ratio.quantity == 'memory' else ''}",
            "median": ratio.median,
            "low": ratio.low,
            "high": ratio.high,
        }
        for own in by_stage(results.cases).values()
        for case in own
        for ratio in case.peers
    ]


def _axes(results: BenchResults) -> list[dict[str, Any]]:
    """Axis -> a figure for time and one for memory."""
    lines = curves([case.record for case in results.cases])
    return [
        {
            "axis": axis,
            "quantities": [
                {"quantity": text, "curves": [_curve(curve) for curve in own]}
                for quantity, text in _QUANTITIES.items()
                if (own := [curve for curve in lines if (curve.axis, curve.quantity) == (axis, quantity)])
            ],
        }
        for axis in dict.fromkeys(curve.axis for curve in lines)
    ]


def _curve(curve: Curve) -> dict[str, Any]:
    scale = 1000 if curve.quantity == "time" else 1
    return {
        "name": curve.name,
        "exponent": None if curve.exponent is None else {"slope": curve.exponent.slope, "error": curve.exponent.error},
        "points": [[size, scale * value] for size, value in curve.points],
    }
