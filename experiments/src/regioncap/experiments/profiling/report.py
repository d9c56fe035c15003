"""A profile as files: what the stages took, the operators behind it, memory over time, and one line to act on."""

from pathlib import Path

from regioncap.experiments.config import Experiment
from regioncap.experiments.profiling.figure import memory_figure
from regioncap.experiments.profiling.measured import Profile
from regioncap.experiments.profiling.verdict import verdict
from regioncap.experiments.reporting.tables import ReportTable, markdown
from regioncap.experiments.scoring.whole_file import write_whole

PROFILE, OPERATORS, MEMORY = "profile.md", "operators.md", "memory.png"
_TOP = 6
"""Operators of a stage."""


def write_profile(profile: Profile, experiment: Experiment, out: Path, trace: str) -> str:
    """Write the files; returns the verdict."""
    said = verdict(profile, experiment)
    lines = [f"# Profile: {profile.what}, {profile.subject}", "", f"**{said}**", ""]
    lines += [*(f"- {note}" for note in (stall_text(profile), *profile.notes)), "", markdown([stage_table(profile)])]
    lines += [f"`{trace}` opens in ui.perfetto.dev; `{OPERATORS}` has the operators of each stage.", ""]
    if profile.trace.memory.mib:
        memory_figure(profile.trace.memory).savefig(out / MEMORY, dpi=120)
        lines += [f"![{profile.trace.memory.device} memory over the trace]({MEMORY})", ""]
    write_whole(out / PROFILE, "\n".join(lines))
    write_whole(out / OPERATORS, markdown(operator_tables(profile)))
    return said


def stage_table(profile: Profile) -> ReportTable:
    """Seconds of each stage, the dearest first."""
    timed = profile.timed
    rows = tuple(
        (stage, f"{1000 * seconds / timed.units:,.2f}", f"{timed.share(stage):.1%}")
        for stage, seconds in sorted(timed.seconds.items(), key=lambda pair: -pair[1])
    )
    covered = timed.busy_s / (timed.wall_s * timed.threads)
    note = (
        f"{timed.images} images on {profile.device} in {timed.wall_s:.2f} s of wall time ({timed.units} x "
        f"{profile.unit}, {_threads(timed.threads)}, {timed.images / timed.wall_s:.1f} images/s), no profiler; stages "
        f"cover {covered:.0%} of it."
    )
    return ReportTable(title="Stages", head=("stage", f"ms a {profile.unit}", "share"), rows=rows, note=note)


def stall_text(profile: Profile) -> str:
    """Waiting for data against computing."""
    timed = profile.timed
    waiting, rest = 1000 * timed.waiting_s / timed.units, 1000 * (timed.busy_s - timed.waiting_s) / timed.units
    match profile.what:
        case "train":
            got = f"waits {waiting:.2f} ms for its batch (features, captions) and computes {rest:.2f} ms"
        case "encode":
            got = f"takes {waiting:.2f} ms of reading and resizing and {rest:.2f} ms of computing, over all threads"
        case "caption":
            got = f"waits {waiting:.2f} ms for its pictures, which are read one by one, and computes {rest:.2f} ms"
    return f"a {profile.unit} {got}: {timed.waiting:.1%} waiting"


def operator_tables(profile: Profile) -> list[ReportTable]:
    """The dearest operators of every stage, the dearest stage first."""
    by_stage: dict[str, list[tuple[str, int, float]]] = {}
    for operator in profile.trace.operators:
        by_stage.setdefault(operator.stage, []).append((operator.name, operator.calls, operator.ms))
    units = profile.traced_units
    whole = sum(operator.ms for operator in profile.trace.operators) or 1.0
    sums = {stage: sum(ms for _, _, ms in own) for stage, own in by_stage.items()}
    return [
        ReportTable(
            title=f"{stage}, {sums[stage] / whole:.1%}",
            head=("operator", f"calls a {profile.unit}", f"ms a {profile.unit}", "of the stage"),
            rows=tuple(
                (name, f"{calls / units:,.0f}", f"{ms / units:,.3f}", f"{_share(ms, sums[stage]):.0%}")
                for name, calls, ms in by_stage[stage][:_TOP]
            ),
        )
        for stage in sorted(sums, key=lambda stage: -sums[stage])
    ]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"
