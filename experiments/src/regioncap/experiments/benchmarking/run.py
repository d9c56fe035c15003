"""`regioncap bench run`: every benchmark file in a process of its own, what is finished kept, one file of results."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

from regioncap.experiments.benchmarking.machine import Machine, cores, git, this_machine
from regioncap.experiments.benchmarking.results import (
    RESULTS,
    BenchResults,
    CaseResult,
    Set,
    cases_of,
    write_results,
)
from regioncap.experiments.benchmarking.run_progress import RunProgress
from regioncap.experiments.benchmarking.suite import find_benchmarks, run_file, select
from regioncap.experiments.scoring.whole_file import write_whole

PARTS = "parts"
"""Folder of what pytest-benchmark wrote, a file for each benchmark file."""
_UNFINISHED = "unfinished.json"
"""Tells of what sources and on which machine the parts are, while some are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is measured, and where it goes."""

    set: Set = "standard"
    """`standard` takes minutes, `full` adds the benchmarks marked slow."""
    only: tuple[str, ...] = ()
    """Benchmark files, as `graph` for benchmarks/bench_graph.py; none named: all."""
    jobs: int = 1
    """Benchmark files measured at once, each on a core of its own (Linux). Two on two cores take half of the time; they
    share caches and memory, so times are compared with runs of as many alone. Ratios to peers are taken in turns."""
    out: Path | None = None
    """Folder to write; None is runs/bench, or with `--only` runs/bench-NAME."""

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= max(1, cores()):
            raise ValueError(f"--jobs must lie in 1..{cores()}, the cores that there are, got {self.jobs}")

    @property
    def folder(self) -> Path:
        """Where results go: a part of the benchmarks does not take the place of all."""
        return self.out or Path("runs") / "-".join(["bench", *self.only])


def run_benchmarks(options: RunOptions) -> BenchResults:
    """Measure and write `OUT/results.json`; a run that was killed goes on with the files that it lacks.

    Files that were finished are kept while commit, sources and machine are the same. Raises ValueError outside a
    checkout or for an unknown file.
    """
    folder, out = find_benchmarks(), options.folder
    files = select(folder, options.only)
    machine = this_machine(folder.parent, options.jobs)
    if machine.busy:
        print(
            f"the machine is busy (load {machine.load:.1f} on {machine.cores} cores): times will be higher than on an "
            "idle one, ratios to peers less so",
            flush=True,
        )
    state = _State(out, _key(folder, files, options.set, machine))
    todo = [file for file in files if not state.finished(file)]
    if len(todo) < len(files):
        print(f"{len(files) - len(todo)} of {len(files)} files were measured before this run was stopped", flush=True)
    _measure(todo, options, state, _last_times(out))
    cases = tuple(case for file in files for case in state.cases(file))
    _say_twice(cases)
    results = BenchResults(
        machine=machine,
        started=state.started,
        set=options.set,
        seconds=state.seconds,
        cases=cases,
        failed=state.failed,
    )
    write_results(results, out)
    state.close()
    return results


def _measure(todo: Sequence[Path], options: RunOptions, state: "_State", last: Mapping[str, float]) -> None:
    """Run the files, `options.jobs` at once; whatever ends this ends their processes."""
    running: set[subprocess.Popen[str]] = set()
    free: SimpleQueue[int | None] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: options.jobs] if options.jobs > 1 else [None]:
        free.put(core)
    if options.jobs > 1:  # the longest first, so that none is alone at the end
        todo = sorted(todo, key=lambda file: -last.get(file.name, 0.0))
    over = Event()
    with (
        RunProgress([file.name for file in todo], last, jobs=options.jobs) as progress,
        ThreadPoolExecutor(options.jobs) as threads,
    ):

        def began(process: subprocess.Popen[str]) -> None:
            running.add(process)
            if over.is_set():  # it was started while the others were being ended
                process.kill()

        def measure(file: Path) -> None:
            if over.is_set():
                return
            core = free.get()
            progress.begin(file.name)
            tell = partial(progress.update, file.name)
            why = run_file(file, options.set, state.part(file), tell, core=core, began=began)
            free.put(core)
            if not over.is_set():
                state.keep(file, progress.end(file.name, _told(state.cases(file), why)), why)

        waiting = [threads.submit(measure, file) for file in todo]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            over.set()
            for process in tuple(running):
                process.kill()
            raise


class _State:
    """What of a run is done, on disk."""

    def __init__(self, out: Path, key: str) -> None:
        self._file, self._parts, self._key = out / _UNFINISHED, out / PARTS, key
        self.started, self.seconds, self.failed = time.strftime("%Y-%m-%d %H:%M"), dict[str, float](), dict[str, str]()
        stored = _read(self._file)
        if stored.get("key") == key:
            self.started, self.seconds = stored["started"], stored["seconds"]
        else:
            shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._write()

    def part(self, file: Path) -> Path:
        """Where the file's JSON goes."""
        return self._parts / f"{file.stem}.json"

    def finished(self, file: Path) -> bool:
        """Whether it was run before; one that failed is run again."""
        return file.name in self.seconds

    def cases(self, file: Path) -> tuple[CaseResult, ...]:
        """None where all were left out."""
        part = self.part(file)
        text = part.read_text(encoding="utf-8") if part.is_file() else ""
        return cases_of(file.name, text) if text else ()

    def keep(self, file: Path, seconds: float, why: str) -> None:
        """The file was run."""
        with self._lock:
            if why:
                self.failed[file.name] = why
            else:
                self.seconds[file.name] = round(seconds, 1)
            self._write()

    def close(self) -> None:
        """All is done. Failed files are run again by the same command, the others kept."""
        if not self.failed:
            self._file.unlink()

    def _write(self) -> None:
        write_whole(
            self._file, json.dumps({"key": self._key, "started": self.started, "seconds": self.seconds}, indent=1)
        )


def _key(folder: Path, files: Sequence[Path], which: Set, machine: Machine) -> str:
    """A digest of all that decides what is measured."""
    checkout = folder.parent
    parts = [which, machine.cpu, machine.gpu, str(machine.cores), str(machine.jobs), machine.torch, machine.commit]
    parts += [git(checkout, "diff", "HEAD"), *(f"{file.name} {file.read_text(encoding='utf-8')}" for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _last_times(out: Path) -> dict[str, float]:
    """What files took in the run before, of whatever version."""
    stored = _read(out / RESULTS).get("seconds", {})
    return {file: float(seconds) for file, seconds in stored.items()}


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def _told(cases: Sequence[CaseResult], why: str) -> str:
    return f"FAILED, {why}" if why else f"{len(cases)} cases"


def _say_twice(cases: Sequence[CaseResult]) -> None:
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        print(f"{len(twice)} cases share their name with another, such as {twice[0]!r}: the last one is compared")
