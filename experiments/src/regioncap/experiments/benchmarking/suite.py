"""The benchmark files of a checkout, and how one of them is run."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from regioncap.experiments.benchmarking.machine import THREADS
from regioncap.experiments.benchmarking.results import Set

FOLDER = "benchmarks"
_NO_TESTS = 5
"""pytest's exit status where nothing was selected: a file of slow benchmarks alone, in the standard set."""


def find_benchmarks(start: Path | None = None) -> Path:
    """The checkout's `benchmarks/`, from the working folder (or `start`) upwards, else beside these sources.

    It is no part of a wheel. Raises ValueError saying where it was looked for.
    """
    here = (start or Path.cwd()).resolve()
    for parent in (here, *here.parents, *Path(__file__).resolve().parents):
        if any((parent / FOLDER).glob("bench_*.py")):
            return parent / FOLDER
    raise ValueError(
        f"no {FOLDER}/bench_*.py in {here} or above it, nor above {Path(__file__).parent}: benchmarks are part of the "
        "repository, not of the installed package; call `regioncap bench run` inside a checkout"
    )


def select(folder: Path, only: Sequence[str]) -> tuple[Path, ...]:
    """Files with benchmarks; those of `only`, named `graph` or `bench_graph.py`, if it names any.

    Raises ValueError for a name that no file has.
    """
    files = {file.stem.removeprefix("bench_"): file for file in sorted(folder.glob("bench_*.py"))}
    files = {name: file for name, file in files.items() if "def test_" in file.read_text(encoding="utf-8")}
    wanted = [word.removesuffix(".py").removeprefix("bench_").replace(" ", "_").replace("-", "_") for word in only]
    for word, name in zip(only, wanted, strict=True):
        if name not in files:
            raise ValueError(f"--only {word}: {folder} has no bench_{name}.py; there are {', '.join(files)}")
    return tuple(files[name] for name in files if not wanted or name in wanted)


def run_file(
    file: Path,
    which: Set,
    target: Path,
    tell: Callable[[int, int], None],
    *,
    core: int | None = None,
    began: Callable[[subprocess.Popen[str]], None] = lambda process: None,
) -> str:
    """Run a file's benchmarks in a process of their own; returns why some have no results, or "".

    pytest-benchmark's JSON goes to `target`, all that is printed beside it as `.log`. `tell` gets benchmarks done and
    benchmarks in all, `began` the process, which stays on `core` where one is named.
    """
    log = target.with_suffix(".log")
    target.unlink(missing_ok=True)
    done, total = 0, 0
    with (
        log.open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            _command(file, which, target),
            cwd=file.parent.parent,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        if core is not None:
            os.sched_setaffinity(process.pid, {core})  # before it has threads or children, which inherit it
        began(process)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                kept.write(line)
                if found := re.search(r"collected (\d+) items?(?:.* (\d+) selected)?", line):
                    total = int(found[2] or found[1])
                elif any(word in line for word in (" PASSED", " FAILED", " SKIPPED", " ERROR")):
                    done += 1
                    tell(done, max(done, total))
        except BaseException:
            process.kill()
            raise
    if process.returncode in (0, _NO_TESTS):
        return ""
    return f"{_failure(log.read_text(encoding='utf-8').splitlines(), process.returncode)} ({log})"


def _command(file: Path, which: Set, target: Path) -> list[str]:
    marks = ["-m", "not slow"] if which == "standard" else []
    return [
        sys.executable, "-m", "pytest", str(file), "-v", "-p", "no:cacheprovider", "--benchmark-only",
        f"--benchmark-json={target.resolve()}", "-o", "addopts=--import-mode=importlib --strict-markers",
        "-o", "python_files=bench_*.py", *marks,
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """What libraries read before the benchmarks can tell them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    quiet = {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "TOKENIZERS_PARALLELISM": "false"}
    return own | threads | quiet | {"PYTHONUNBUFFERED": "1"}


def _failure(lines: Sequence[str], status: int) -> str:
    """How many benchmarks failed, and the first one's error, from what pytest printed."""
    failed = sum(line.startswith(("FAILED", "ERROR")) for line in lines)
    errors = [" ".join(line[1:].split()) for line in lines if line.startswith("E ")]
    first = errors[0] if errors else " ".join(lines[-1].split()) if lines else f"status {status}"
    return f"{failed} failed, the first with {first}" if failed else first
