"""Memory over the time of a trace, with the stages below it."""

import itertools

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from regioncap.experiments.profiling.trace import MemoryCurve

COLOURS = (
    "#7059c4", "#c95f17", "#2c8a4e", "#b8438a", "#2f6db3", "#8f7716", "#1c8794", "#a05a3c", "#6f7781", "#d9a441",
    "#5ac3d0", "#e886c0", "#93b85c", "#353b41",
)  # fmt: skip


def memory_figure(memory: MemoryCurve) -> Figure:
    """What torch holds beyond the start, and which stage runs: an inner stage is drawn over the one around it."""
    figure = Figure(figsize=(10, 4), layout="constrained", facecolor="white")
    curve, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    curve.step(memory.seconds, memory.mib, where="post", color="#2f6db3", linewidth=1)
    curve.fill_between(memory.seconds, memory.mib, step="post", color="#2f6db3", alpha=0.15)
    curve.set_ylabel(f"{memory.device} MiB since the start")
    if memory.mib:
        top = max(range(len(memory.mib)), key=memory.mib.__getitem__)
        curve.annotate(
            f"{memory.mib[top]:,.0f} MiB", (memory.seconds[top], memory.mib[top]),
            xytext=(0, 4), textcoords="offset points", ha="center", fontsize=9,
        )  # fmt: skip
        curve.margins(y=0.12)
    names = list(dict.fromkeys(stage for stage, _, _ in memory.stages))
    colours = dict(zip(names, itertools.cycle(COLOURS), strict=False))
    spans = [(start, end - start) for _, start, end in memory.stages]
    # In their order, the longest first: what is within another is drawn over it.
    below.broken_barh(spans, (0, 1), facecolors=[colours[stage] for stage, _, _ in memory.stages])
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    below.set_yticks([])
    below.set_xlabel("seconds of the trace (the profiler slows small operators)")
    for axes in (curve, below):
        axes.spines[["top", "right"]].set_visible(False)
    if names:
        figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure
