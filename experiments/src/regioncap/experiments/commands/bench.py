"""The command that measures every stage, compares measurements, and keeps ratios to peers from falling."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regioncap.experiments.benchmarking.compare import compare_results, comparison_table
from regioncap.experiments.benchmarking.docs import fill_document, measured_parts
from regioncap.experiments.benchmarking.gate import (
    EXPECTED,
    read_expected,
    unexpected,
    updated,
    violations,
    write_expected,
)
from regioncap.experiments.benchmarking.page import bench_page
from regioncap.experiments.benchmarking.results import RESULTS, BenchResults, read_results
from regioncap.experiments.benchmarking.run import RunOptions, run_benchmarks
from regioncap.experiments.benchmarking.suite import find_benchmarks
from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.reporting.tables import ReportTable, markdown
from regioncap.experiments.scoring.whole_file import check_target, write_whole

PAGE = "bench.html"
_BENCH = Path("runs") / "bench"


@dataclass(frozen=True, kw_only=True)
class BenchRunCommand:
    """Measure every stage of this checkout: OUT/results.json, OUT/bench.html, a run of MLflow.

    The same command goes on where a run was stopped. Ends with status 1 if a file has no results.
    """

    options: Annotated[RunOptions, tyro.conf.arg(name="")] = field(default_factory=RunOptions)
    mlflow: bool = True
    """Whether to log the run, into the store beside OUT or that of MLFLOW_TRACKING_URI."""


@dataclass(frozen=True, kw_only=True)
class BenchCompareCommand:
    """What moved from one run to another by more than noise: regioncap bench compare runs/before runs/after."""

    a: tyro.conf.Positional[str]
    """results.json of a run, its folder, or the id of its run in MLflow."""
    b: tyro.conf.Positional[str]
    """The same of the other run."""
    noise: str = "5%"
    """What two runs of the same code differ by: a share of A's figure."""
    json: Path | None = None
    """File to write the changes to, as JSON."""
    markdown: Path | None = None
    """File to write the table to, as Markdown."""
    home: Path = Path("runs")
    """Folder of the MLflow store that ids are looked up in, unless MLFLOW_TRACKING_URI names it."""


@dataclass(frozen=True, kw_only=True)
class BenchGateCommand:
    """Fail if a ratio to a peer fell below what benchmarks/expected_ratios.json allows: a line for each."""

    results: tyro.conf.Positional[Path] = _BENCH
    """results.json of a run, or its folder."""
    expected: Path | None = None
    """File of expected ratios; None is the checkout's."""
    update: bool = False
    """Write the measured ratios into the file, in the place of checking them."""


@dataclass(frozen=True, kw_only=True)
class BenchPageCommand:
    """A run as a page, as Markdown, or written into a document between its marks."""

    results: tyro.conf.Positional[Path] = _BENCH
    """results.json of a run, or its folder."""
    out: Path | None = None
    """HTML file to write; None is bench.html beside the results."""
    markdown: Path | None = None
    """File to write all tables to."""
    fill: Path | None = None
    """Document with `<!-- measured: NAME -->` marks to fill, such as docs/performance.md."""


_HELP = """\
Latency, memory and scale of every stage, beside peers (docs/performance.md)

  regioncap bench run --set full --out DIR         measure; DIR/results.json, DIR/bench.html and a run of MLflow
  regioncap bench compare BEFORE AFTER             what moved by more than noise
  regioncap bench gate DIR                         fail if a ratio to a peer fell below what the repository expects
  regioncap bench page DIR --fill DOCUMENT.md      the page anew, and tables for documents

`regioncap bench NAME --help` lists the flags of each.
"""


def bench_command(arguments: Sequence[str]) -> int:
    """Run one of BENCH_COMMANDS. Raises ValueError naming them for another word."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in BENCH_COMMANDS:
        raise ValueError(f"regioncap bench wants {', '.join(BENCH_COMMANDS)} first, got {name!r}")
    return BENCH_COMMANDS[name](rest)


def _run(arguments: Sequence[str]) -> int:
    command = parse(BenchRunCommand, "regioncap bench run", arguments)
    try:
        results = run_benchmarks(command.options)
    except KeyboardInterrupt:
        return fail("interrupted; files that were finished are kept, the same command goes on")
    out = command.options.folder
    write_whole(out / PAGE, bench_page(results))
    print(f"{len(results.cases)} cases: {out / RESULTS}, {out / PAGE}")
    if command.mlflow:
        from regioncap.experiments.benchmarking.mlflow_run import log_results  # MLflow takes seconds to import

        print(log_results(results, out, (out / RESULTS, out / PAGE)))
    for file, why in results.failed.items():
        fail(f"{file}: {why}")
    return 1 if results.failed else 0


def _compare(arguments: Sequence[str]) -> int:
    command = parse(BenchCompareCommand, "regioncap bench compare", arguments)
    a, b = (_results_of(name, command.home) for name in (command.a, command.b))
    comparison = compare_results(a, b, noise=_share(command.noise))
    table = comparison_table(comparison)
    for note in comparison.notes:
        print(note)
    _print(table)
    if command.json is not None:
        write_whole(command.json, json.dumps(asdict(comparison), indent=1, ensure_ascii=False) + "\n")
    if command.markdown is not None:
        write_whole(command.markdown, "".join(f"{note}\n\n" for note in comparison.notes) + markdown([table]))
    return 0


def _gate(arguments: Sequence[str]) -> int:
    command = parse(BenchGateCommand, "regioncap bench gate", arguments)
    results, file = read_results(command.results), command.expected or find_benchmarks() / EXPECTED
    expected = read_expected(file)
    if command.update:
        after = updated(results, expected)
        write_expected(after, file)
        print(f"{file}: {len(after)} ratios")
        return 0
    broken = violations(results, expected)
    for line in broken:
        fail(line)
    if new := unexpected(results, expected):
        print(f"{len(new)} ratios are not in {file}, such as {new[0]}: `regioncap bench gate --update` adds them")
    if not broken:
        print(f"the gate holds: {len(expected)} expected ratios, none has fallen")
    return 1 if broken else 0


def _page(arguments: Sequence[str]) -> int:
    command = parse(BenchPageCommand, "regioncap bench page", arguments)
    results = read_results(command.results)
    folder = command.results if command.results.is_dir() else command.results.parent
    out = command.out or folder / PAGE
    check_target(out)
    write_whole(out, bench_page(results))
    print(f"Page: {out}")
    if command.markdown is not None:
        write_whole(command.markdown, "\n\n".join(measured_parts(results).values()) + "\n")
        print(f"Tables: {command.markdown}")
    if command.fill is not None:
        print(f"{command.fill}: filled {', '.join(fill_document(command.fill, results))}")
    return 0


def _results_of(name: str, home: Path) -> BenchResults:
    """From disk or, for the id of a run, from MLflow."""
    if Path(name).exists() or len(name) != 32:
        return read_results(Path(name))
    from mlflow.exceptions import MlflowException

    from regioncap.experiments.tracking.store import open_store

    with tempfile.TemporaryDirectory() as folder:
        try:
            return read_results(Path(open_store(home).client.download_artifacts(name, RESULTS, folder)))
        except MlflowException as error:
            raise ValueError(f"{name} is no file, no folder, and no MLflow run with {RESULTS}: {error}") from error


def _print(table: ReportTable) -> None:
    """On the terminal, wide enough that nothing is cut."""
    if table.rows:
        shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for number, head in enumerate(table.head):
            shown.add_column(head, justify="right" if 1 < number < len(table.head) - 1 else "left", no_wrap=True)
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console = Console()
        needed = console.measure(shown, options=console.options.update(width=1000)).maximum
        Console(width=max(console.width, needed)).print(shown)
    print(table.note)


def _share(text: str) -> float:
    """`5%` or `0.05`."""
    number = text.strip().removesuffix("%")
    try:
        return float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"--noise wants a share such as 5% or 0.05, got {text!r}") from None


BENCH_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "compare": _compare,
    "gate": _gate,
    "page": _page,
}
