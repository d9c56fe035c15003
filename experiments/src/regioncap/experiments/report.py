"""The study's result, in percent as the paper prints it: a table (JSON, Markdown, terminal) and a figure."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regioncap.experiments.measures_table import measures_markdown
from regioncap.experiments.metrics import MEASURES, METRICS, in_print, measure_text

COLOURS = ("#2f6db3", "#e07b39", "#3a9a5c", "#b8438a", "#7a62c9", "#8a8f98", "#b3962f", "#35a3b0")

Curves = Mapping[str, Mapping[int, Sequence[tuple[int, float]]]]
"""arm -> seed -> (step, dev CIDEr as a fraction), in the order of the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSummary:
    """One metric over an arm's seeds, as a fraction: CIDEr 0.45 is printed as 45.0."""

    mean: float
    std: float
    """Sample standard deviation; 0 with one seed."""
    values: tuple[float, ...]
    """One a seed."""

    @classmethod
    def of(cls, values: Iterable[float]) -> "MetricSummary":
        """Summarise the seeds' values. Raises ValueError if there are none."""
        values = tuple(float(value) for value in values)
        if not values:
            raise ValueError("a metric without values cannot be summarised; leave it out of the row")
        return cls(mean=fmean(values), std=stdev(values) if len(values) > 1 else 0.0, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One arm of the study over its seeds."""

    arm: str
    seeds: int
    metrics: Mapping[str, MetricSummary]
    """Keys of `METRICS`; what could not be computed is not there."""
    p: float | None
    """Paired bootstrap on CIDEr against the arm `against`; None where there is nothing to compare."""
    parameters: int
    """Trained parameters."""
    train_cpu_s: float
    """CPU seconds of training, mean over the seeds."""
    against: str | None = None
    """The arm that `p` compares with; None is the row above. A control is compared with the arm that it controls."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Metric that could not be computed -> why."""
    measures: Mapping[str, MetricSummary] = field(default_factory=dict)
    """Keys of `MEASURES`: what else was measured of the captions."""
    missing_measures: Mapping[str, str] = field(default_factory=dict)
    """Measure that is not there -> why."""


def table_json(rows: Sequence[StudyRow]) -> list[dict[str, Any]]:
    """The rows as plain data; every metric is `{"mean", "std"}` in percent, null where it could not be computed.

    So is every measure beside the metrics, under `measures`, in the unit that it is printed in.
    """
    return [
        {"arm": row.arm, "seeds": row.seeds}
        | {metric: _percent(row.metrics.get(metric)) for metric in METRICS}
        | {
            "p": row.p,
            "against": _against(rows, index),
            "parameters": row.parameters,
            "train_cpu_s": round(row.train_cpu_s, 1),
        }
        | ({"missing": dict(row.missing)} if row.missing else {})
        | ({"measures": _in_print(row.measures)} if row.measures else {})
        for index, row in enumerate(rows)
    ]


def table_markdown(rows: Sequence[StudyRow], title: str, notes: Sequence[str] = ()) -> str:
    """A Markdown page: the table with the best mean of each metric in bold, what it shows, and `notes`."""
    best = best_arms(rows)
    head = ["arm", "seeds", *METRICS, "p", "parameters", "training, CPU s"]
    lines = [f"# {title}", "", _pipes(head), _pipes(["---", *["---:"] * (len(head) - 1)])]
    for row in rows:
        cells = []
        for metric in METRICS:
            text = cell_text(row, metric, " ± ")
            cells.append(f"**{text}**" if row.arm in best[metric] else text)
        lines.append(
            _pipes([row.arm, str(row.seeds), *cells, p_cell(row), f"{row.parameters:,}", f"{row.train_cpu_s:,.0f}"])
        )
    lines += ["", *(f"- {note}" for note in (*table_legend(rows), *notes))]
    beside = measures_markdown(measure_texts(rows), missing_measures(rows))
    lines += ["", *beside] if beside else []
    return "\n".join(lines) + "\n"


def print_table(rows: Sequence[StudyRow], title: str, console: Console | None = None) -> None:
    """The table on the terminal (or `console`), with the spread below each mean.

    Its columns are never cut: a log file has no width, and in a narrow window long lines wrap.
    """
    best = best_arms(rows)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    for name in ("seeds", *(metric.replace("BLEU", "B") for metric in METRICS), "p", "params", "CPU s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            Text(cell_text(row, metric, "\n±"), style="bold green" if row.arm in best[metric] else "")
            for metric in METRICS
        ]
        size = f"{row.parameters / 1e6:.2f}M" if row.parameters else "0"
        table.add_row(Text(row.arm), str(row.seeds), *cells, p_cell(row), size, f"{row.train_cpu_s:.0f}")
    console = console or Console()
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    whole = Console(file=console.file, width=max(console.width, needed), force_terminal=console.is_terminal)
    whole.print(table)
    for line in table_legend(rows):
        whole.print(Text(line, style="dim"))


def plot_study(rows: Sequence[StudyRow], curves: Curves) -> Figure:
    """CIDEr of each arm, a dot a seed, with mean and spread; beside it, how dev CIDEr grew in training.

    An arm has one colour in both panels, so that its name on the left is the right panel's legend.
    """
    figure = Figure(figsize=(11, max(3.2, 1.4 + 0.45 * len(rows))), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    colours = {row.arm: COLOURS[index % len(COLOURS)] for index, row in enumerate(rows)}
    _plot_arms(left, rows, colours)
    _plot_curves(right, curves, colours)
    return figure


def write_study(folder: Path, rows: Sequence[StudyRow], curves: Curves, title: str, notes: Sequence[str] = ()) -> None:
    """Write `table.json`, `table.md` and `table.png`. Each replaces its predecessor whole: a study may be killed."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table_json(rows), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _replace(folder / "table.json", lambda draft: draft.write_text(text, encoding="utf-8"))
    page = table_markdown(rows, title, notes)
    _replace(folder / "table.md", lambda draft: draft.write_text(page, encoding="utf-8"))
    figure = plot_study(rows, curves)
    _replace(folder / "table.png", lambda draft: figure.savefig(draft, dpi=150, format="png"))


def _percent(summary: MetricSummary | None) -> dict[str, float | None]:
    if summary is None:
        return {"mean": None, "std": None}
    return {"mean": round(100 * summary.mean, 4), "std": round(100 * summary.std, 4)}


def _in_print(measures: Mapping[str, MetricSummary]) -> dict[str, dict[str, float]]:
    return {
        name: {"mean": round(in_print(name, own.mean), 4), "std": round(in_print(name, own.std), 4)}
        for name, own in measures.items()
    }


def measure_texts(rows: Sequence[StudyRow]) -> dict[str, dict[str, str]]:
    """Arm -> measure -> mean and spread as printed."""
    return {
        row.arm: {
            name: measure_text(name, row.measures[name].mean)
            + (f" ± {measure_text(name, row.measures[name].std)}" if row.seeds > 1 else "")
            for name in MEASURES
            if name in row.measures
        }
        for row in rows
    }


def missing_measures(rows: Sequence[StudyRow]) -> dict[str, str]:
    """Measure that is not there -> why."""
    return {name: why for row in rows for name, why in row.missing_measures.items()}


def cell_text(row: StudyRow, metric: str, between: str) -> str:
    """A metric's mean and, `between` them, its spread: `45.0 ± 1.2`."""
    if metric not in row.metrics:
        return "n/a"
    summary = row.metrics[metric]
    spread = f"{between}{100 * summary.std:.1f}" if row.seeds > 1 else ""
    return f"{100 * summary.mean:.1f}{spread}"


def p_cell(row: StudyRow) -> str:
    """`<0.001`, `0.012`, or a dash where there is nothing to compare."""
    if row.p is None:
        return "–"
    return "<0.001" if row.p < 0.001 else f"{row.p:.3f}"


def _against(rows: Sequence[StudyRow], index: int) -> str | None:
    """The arm that a row's p compares with."""
    if rows[index].p is None:
        return None
    return rows[index].against or (rows[index - 1].arm if index else None)


def best_arms(rows: Sequence[StudyRow]) -> dict[str, set[str]]:
    """Per metric the arms that print the highest mean; nobody where all print the same."""
    best: dict[str, set[str]] = {}
    for metric in METRICS:
        means = {row.arm: round(100 * row.metrics[metric].mean, 1) for row in rows if metric in row.metrics}
        differ = len(set(means.values())) > 1
        best[metric] = {arm for arm, mean in means.items() if differ and mean == max(means.values())}
    return best


def table_legend(rows: Sequence[StudyRow]) -> list[str]:
    """What the reader must know to read this table, and no more."""
    legend = [
        "Scores in percent" + (", mean ± standard deviation over seeds." if any(r.seeds > 1 for r in rows) else ".")
    ]
    compared = [(_against(rows, index), index) for index, row in enumerate(rows) if row.p is not None]
    if compared:
        others = [f"{rows[i].arm} against {arm}" for arm, i in compared if i == 0 or arm != rows[i - 1].arm]
        legend.append("; ".join(["p: paired bootstrap on CIDEr against the row above", *others]) + ".")
    why: dict[str, list[str]] = {}
    for row in rows:
        for metric, reason in row.missing.items():
            why.setdefault(f"{metric} n/a: {reason}", []).append(row.arm)
    return legend + [text if len(arms) == len(rows) else f"{text} ({', '.join(arms)})" for text, arms in why.items()]


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plot_arms(axes: Axes, rows: Sequence[StudyRow], colours: Mapping[str, str]) -> None:
    for index, row in enumerate(rows):
        if "CIDEr" not in row.metrics:
            continue
        cider, colour = row.metrics["CIDEr"], colours[row.arm]
        mean, std = 100 * cider.mean, 100 * cider.std
        axes.barh(index, mean, height=0.58, color=colour, alpha=0.22, zorder=1)
        axes.errorbar(
            mean, index, xerr=std if row.seeds > 1 else None, fmt="|", color=colour, ms=17, mew=2.4, capsize=4
        )
        seeds = [100 * value for value in cider.values]
        axes.scatter(seeds, [index] * len(seeds), s=20, color=colour, edgecolor="white", linewidth=0.7, zorder=3)
        note = f"{mean:.1f}" + (f"  p {p_cell(row)}" if row.p is not None else "")
        reach = max([mean + std, *seeds])
        axes.annotate(note, (reach, index), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(colours[row.arm])
        label.set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * max([1.0, *(100 * row.metrics["CIDEr"].mean for row in rows if "CIDEr" in row.metrics)]))
    axes.set_title("CIDEr", loc="left", fontweight="bold")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _plot_curves(axes: Axes, curves: Curves, colours: Mapping[str, str]) -> None:
    for arm, seeds in curves.items():
        colour = colours.get(arm, "#444444")
        by_step: dict[int, list[float]] = {}
        for points in seeds.values():
            for step, cider in points:
                by_step.setdefault(step, []).append(100 * cider)
            if len(seeds) > 1:
                axes.plot([s for s, _ in points], [100 * c for _, c in points], color=colour, alpha=0.25, linewidth=0.9)
        steps = sorted(by_step)
        axes.plot(steps, [fmean(by_step[s]) for s in steps], color=colour, linewidth=2, marker="o", markersize=3)
    axes.set_title("dev CIDEr in training", loc="left", fontweight="bold")
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    draft = path.with_name(f".draft-{path.name}")
    write(draft)
    draft.replace(path)
