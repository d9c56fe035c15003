"""Two runs compared, as text: on the terminal and in Markdown."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regioncap.experiments.comparing.effects import Effect, RunComparison, most_changed
from regioncap.experiments.comparing.runs import Run
from regioncap.experiments.metrics import BLEUS
from regioncap.experiments.scoring.measured import LEVEL
from regioncap.experiments.scoring.table import p_text, percent
from regioncap.experiments.statistics import Spread


def print_runs(comparison: RunComparison, metric: str, shown: int, console: Console) -> None:
    """The table, what it says, and the images whose `metric` changed most. Columns are never cut, as in a log file."""
    head, *rows = effect_rows(comparison)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    whole = Console(file=console.file, width=max(console.width, needed), force_terminal=console.is_terminal)
    whole.print(Text(title(comparison), style="bold"), table)
    for line in legend(comparison):
        whole.print(Text(line, style="dim"))
    for heading, positions in _changed(comparison, metric, shown):
        whole.print()
        whole.print(Text(heading, style="bold"))
        for at in positions:
            whole.print(Text(f" {_gain(comparison.gains[metric][at])}  {comparison.images[at]}"))
            for run, style in ((comparison.base, "dim"), (comparison.run, "")):
                whole.print(Text(f"   {run.name}: {said(run, comparison.images[at])}", style=style), soft_wrap=True)


def runs_markdown(comparison: RunComparison, metric: str, shown: int) -> str:
    """A Markdown page of the same."""
    head, *rows = effect_rows(comparison)
    lines = [f"# {title(comparison)}", "", _pipes(head), _pipes(["---", *["---:"] * (len(head) - 1)])]
    lines += [_pipes(row) for row in rows]
    lines += ["", *(f"- {line}" for line in legend(comparison))]
    for heading, positions in _changed(comparison, metric, shown):
        names = (comparison.base.name, comparison.run.name)
        lines += ["", f"## {heading}", "", _pipes(["image", metric, *names]), _pipes(["---", "---:", "---", "---"])]
        for at in positions:
            image = comparison.images[at]
            texts = [said(run, image) for run in (comparison.base, comparison.run)]
            lines.append(_pipes([image, _gain(comparison.gains[metric][at]), *texts]))
    return "\n".join(lines) + "\n"


def title(comparison: RunComparison) -> str:
    """Which runs, and on how many images."""
    return f"{comparison.run.name} against {comparison.base.name}: {len(comparison.images):,} images"


def effect_rows(comparison: RunComparison) -> list[tuple[str, ...]]:
    """Head and rows of the table; columns about seeds are there only where there are several."""
    several = len(comparison.base.seeds) + len(comparison.run.seeds) > 2
    paired = several and comparison.paired
    head = ["metric", comparison.base.name, comparison.run.name, "difference", f"{LEVEL:.0%} images"]
    head += [f"{LEVEL:.0%} images, seeds"] * several + ["p"] + ["by seed"] * paired
    head += ["better", "worse", "equal", "effect size"]
    rows = [tuple(head)]
    for metric, effect in comparison.effects.items():
        row = [metric, _spread(effect.base), _spread(effect.run), _gain(effect.difference), _span(effect.interval)]
        row += [_span(effect.over_seeds)] * several + [p_text(effect.p).removeprefix("p").strip()]
        row += [" ".join(_gain(value) for value in effect.by_seed)] * paired
        rows.append((*row, *_per_image(effect)))
    return rows


def legend(comparison: RunComparison) -> list[str]:
    """What the reader must know to read the table, and no more."""
    several = len(comparison.base.seeds) + len(comparison.run.seeds) > 2
    lines = [
        "Scores in percent"
        + (", mean ± standard deviation over seeds" if several else "")
        + f"; differences are {comparison.run.name} minus {comparison.base.name}. Intervals: percentile bootstrap "
        f"({comparison.samples:,} resamples, seed {comparison.seed}).",
        "p: two-sided paired bootstrap, of the same draws"
        + (", seeds averaged: it speaks of other images and the same training runs." if several else "."),
        f"These are {len(comparison.effects)} tests, not corrected for their number.",
        "better, worse, equal: images by their own score. effect size: mean difference of the per-image scores in "
        "units of their standard deviation.",
    ]
    if several:
        numbers = [", ".join(map(str, run.numbers)) for run in (comparison.base, comparison.run)]
        lines.append(
            f"Seeds {numbers[0]} on both sides, drawn in pairs; by seed: the difference of each."
            if comparison.paired
            else f"Seeds {numbers[0]} against {numbers[1]}: drawn apart, as there are no pairs."
        )
    else:
        lines.append("One training run a side: nothing here tells how other seeds would have come out.")
    if any(effect.interval is None for effect in comparison.effects.values()):
        lines.append(
            f"No interval for {', '.join(BLEUS)} and SUM: they need the references; name them with --references FILE."
        )
    return lines + [f"{metric} n/a: {why}" for metric, why in comparison.missing.items()]


def said(run: Run, image: str) -> str:
    """The caption of an image; of several seeds the different ones."""
    return " / ".join(dict.fromkeys(own.captions[image] or "(no words)" for own in run.seeds))


def _changed(comparison: RunComparison, metric: str, shown: int) -> list[tuple[str, list[int]]]:
    up, down = most_changed(comparison, metric, shown)
    named = ((f"Largest {metric} gains", up), (f"Largest {metric} losses", down))
    return [(heading, positions) for heading, positions in named if positions]


def _per_image(effect: Effect) -> tuple[str, ...]:
    own = effect.per_image
    return (f"{own.better:,}", f"{own.worse:,}", f"{own.equal:,}", f"{own.size:+.2f}")


def _spread(spread: Spread) -> str:
    return percent(spread.mean) + (f" ± {percent(spread.std)}" if len(spread.values) > 1 else "")


def _span(span: tuple[float, float] | None) -> str:
    return "n/a" if span is None else f"{_gain(span[0])} to {_gain(span[1])}"


def _gain(fraction: float) -> str:
    """0.1034 -> +10.3; what rounds to nothing has no sign."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
