"""A comparison as a table in percent: on the terminal, in Markdown and in LaTeX."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regioncap.experiments.measures_table import measures_markdown, print_measures
from regioncap.experiments.metrics import measure_text
from regioncap.experiments.scoring.compare import Comparison
from regioncap.experiments.scoring.measured import LEVEL, Measured

_INTERVALS = {
    "BLEU": "BLEU is made anew from the n-gram counts of every resample",
    "METEOR": "METEOR's is that of the mean over images, moved to the corpus score",
    "CIDEr": "CIDEr's word weights stay those of the whole set",
}
"""What the interval is of, for metrics that are more than a mean over images."""


def print_comparison(comparison: Comparison, title: str, console: Console) -> None:
    """The table with the interval below each score and p below that, and below it SPICE's parts; the best is green.

    Its columns are never cut: a log file has no width, and in a narrow window long lines wrap.
    """
    tables = {title: _table(comparison, comparison.measured)}
    if comparison.parts:
        tables["SPICE by kind of tuple"] = _table(comparison, comparison.parts)
    wide = console.options.update(width=1000)
    needed = max(console.measure(table, options=wide).maximum for table in tables.values())
    whole = Console(file=console.file, width=max(console.width, needed), force_terminal=console.is_terminal)
    for head, table in tables.items():
        whole.print(Text(head, style="bold"), table)
    for line in legend(comparison):
        whole.print(Text(line, style="dim"))
    print_measures(*_measures(comparison), console)


def table_markdown(comparison: Comparison) -> str:
    """The table with the best score of each metric in bold, that of SPICE's parts where there is one, and a legend."""
    lines = _markdown(comparison, comparison.measured)
    if comparison.parts:
        lines += ["", *_markdown(comparison, comparison.parts)]
    lines += ["", *(f"- {line}" for line in legend(comparison))]
    beside = measures_markdown(*_measures(comparison))
    return "\n".join([*lines, *(["", *beside] if beside else [])]) + "\n"


def table_latex(comparison: Comparison) -> str:
    """A `tabular` for the booktabs package: scores, and below them intervals in small print."""
    best = best_systems(comparison.measured)
    rows = []
    for row, system in enumerate(comparison.systems):
        measured = [comparison.measured[metric][row] for metric in comparison.metrics]
        scores = [
            f"\\textbf{{{percent(cell.value)}}}" if row in best[metric] else percent(cell.value)
            for metric, cell in zip(comparison.metrics, measured, strict=True)
        ]
        spans = [f"{{\\scriptsize {percent(cell.low)}--{percent(cell.high)}}}" for cell in measured]
        rows += [" & ".join([_tex(system.name), *scores]), " & ".join(["", *spans])]
        if row != comparison.baseline:
            ps = [f"{{\\scriptsize ${p_text(cell.p).replace(' ', '=')}$}}" for cell in measured]
            rows.append(" & ".join(["", *ps]))
    head = " & ".join(["", *(_tex(metric) for metric in comparison.metrics)])
    notes = [f"% {line}" for line in legend(comparison)]
    body = [f"{row} \\\\" for row in rows]
    return "\n".join(
        [
            *notes,
            f"\\begin{{tabular}}{{l{'r' * len(comparison.metrics)}}}",
            "\\toprule",
            f"{head} \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def best_systems(measured: Mapping[str, Sequence[Measured]]) -> dict[str, set[int]]:
    """Per metric the systems that print the highest score; none where all print the same."""
    best = {}
    for metric, cells in measured.items():
        printed = [round(100 * cell.value, 1) for cell in cells]
        best[metric] = {row for row, score in enumerate(printed) if score == max(printed) > min(printed)}
    return best


def percent(fraction: float) -> str:
    """0.4466 -> 44.7, as papers print scores."""
    return f"{100 * fraction:.1f}"


def p_text(p: float | None) -> str:
    """`p<0.001` or `p 0.012`; nothing for None."""
    if p is None:
        return ""
    return "p<0.001" if p < 0.001 else f"p {p:.3f}"


def legend(comparison: Comparison) -> list[str]:
    """What the reader must know to read the table, and no more."""
    lines = [
        f"Scores in percent; below, the {LEVEL:.0%} percentile bootstrap interval over images "
        f"({comparison.samples:,} resamples, seed {comparison.seed})."
    ]
    intervals = [
        text for metric, text in _INTERVALS.items() if any(present.startswith(metric) for present in comparison.metrics)
    ]
    if intervals:
        lines.append(f"Of the intervals: {'; '.join(intervals)}.")
    if comparison.parts:
        lines.append("A kind of tuple is scored on the images whose references have such tuples.")
    if len(comparison.systems) > 1:
        baseline = comparison.systems[comparison.baseline].name
        lines.append(f"p: two-sided paired bootstrap against {baseline}.")
    tests = (len(comparison.systems) - 1) * (len(comparison.metrics) + len(comparison.parts))
    if tests > 1:
        lines.append(
            f"These are {tests} tests, not corrected for their number: of so many, one in twenty falls below 0.05 "
            "by chance alone."
        )
    return lines + [f"{metric} n/a: {why}" for metric, why in comparison.missing.items()]


def warnings(comparison: Comparison) -> list[str]:
    """What makes the scores mean less than they seem to; a system is named where it is not of all."""
    systems = comparison.systems
    whose: dict[str, list[str]] = {}
    for system in systems:
        for warning in (*system.scores.warnings, *system.scores.measures.warnings):
            whose.setdefault(warning, []).append(system.name)
    return [
        warning if len(names) == len(systems) else f"{', '.join(names)}: {warning}" for warning, names in whose.items()
    ]


def _measures(comparison: Comparison) -> tuple[dict[str, dict[str, str]], Mapping[str, str]]:
    """System -> measure -> the value as printed; and why measures are missing."""
    measured = {system.name: system.scores.measures for system in comparison.systems}
    texts = {
        name: {measure: measure_text(measure, value) for measure, value in own.corpus.items()}
        for name, own in measured.items()
    }
    return texts, comparison.systems[0].scores.measures.missing


def _table(comparison: Comparison, measured: Mapping[str, Sequence[Measured]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("system", no_wrap=True)
    for metric in measured:
        table.add_column(metric, justify="right", no_wrap=True)
    best = best_systems(measured)
    for row, system in enumerate(comparison.systems):
        texts = []
        for metric, cells in measured.items():
            score, *below = _lines(cells[row])
            text = Text(score, style="bold green" if row in best[metric] else "")
            texts.append(text.append("".join(f"\n{line}" for line in below), style="not bold default"))
        table.add_row(Text(system.name), *texts)
    return table


def _markdown(comparison: Comparison, measured: Mapping[str, Sequence[Measured]]) -> list[str]:
    best = best_systems(measured)
    lines = [_pipes(["system", *measured]), _pipes(["---", *["---:"] * len(measured)])]
    for row, system in enumerate(comparison.systems):
        texts = []
        for metric, cells in measured.items():
            score, *below = _lines(cells[row])
            texts.append("<br>".join([f"**{score}**" if row in best[metric] else score, *below]))
        lines.append(_pipes([system.name, *texts]))
    return lines


def _lines(cell: Measured) -> list[str]:
    lines = [percent(cell.value), f"{percent(cell.low)}–{percent(cell.high)}"]
    return lines if cell.p is None else [*lines, p_text(cell.p)]


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in text)
