"""The pipeline as stacked bars, a picture for documents."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regioncap.experiments.benchmarking.pipeline import ENCODERS, Pipeline
from regioncap.experiments.benchmarking.record import STAGES

COLOURS = ("#6f7781", "#2f6db3", "#c95f17", "#8f7716", "#2c8a4e", "#1c8794", "#b8438a", "#a05a3c", "#7059c4")
"""One a stage, those of the page."""
_NAMED = 0.08
"""Share from which a part of a bar has room for its name."""


def pipeline_figure(pipeline: Pipeline) -> Figure:
    """Two bars of 100 %: the whole pipeline, and what is left of it where encoded images are stored."""
    figure = Figure(figsize=(9, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    _bar(axes, 0, pipeline, without=())
    _bar(axes, 1, pipeline, without=ENCODERS)
    axes.set_yticks([0, 1], ["whole", "features\nstored"])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the time")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles = [
        axes.barh(0, 0, color=_colour(stage), label=f"{stage}, {pipeline.ms(stage):,.2f} ms")
        for stage in pipeline.seconds
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _bar(axes: Axes, row: int, pipeline: Pipeline, without: tuple[str, ...]) -> None:
    at = 0.0
    for stage in pipeline.seconds:
        if stage in without:
            continue
        share = pipeline.share([stage], without=without)
        axes.barh(row, 100 * share, left=100 * at, height=0.62, color=_colour(stage), edgecolor="white", linewidth=0.6)
        if share >= _NAMED:
            text = f"{stage.replace(' ', chr(10))}\n{share:.0%}"
            axes.text(100 * (at + share / 2), row, text, ha="center", va="center", color="white", fontsize=9)
        at += share


def _colour(stage: str) -> str:
    return COLOURS[STAGES.index(stage) % len(COLOURS)]
