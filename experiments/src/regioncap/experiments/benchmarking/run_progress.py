"""How far a run of the benchmarks is: the last run's times say how long the rest will take."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from regioncap.experiments.progress import EVERY_S, REDRAWS

_UNKNOWN_S = 30.0
"""A guess for a file that was never measured, where no other was either."""
_LEAST_S = 0.1


class RunProgress:
    """A bar on a terminal, a line a file and every `EVERY_S` seconds elsewhere. A context manager.

    `files` are those to run, `seconds` what they took the last time; one that is not in it is taken for an average one.
    `jobs` of them run at once, each telling of itself from a thread of its own.
    """

    def __init__(
        self,
        files: Sequence[str],
        seconds: Mapping[str, float],
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        jobs: int = 1,
    ) -> None:
        known = [seconds[file] for file in files if file in seconds]
        average = sum(known) / len(known) if known else _UNKNOWN_S
        self._expected = {file: max(_LEAST_S, seconds.get(file, average)) for file in files}
        self._left = dict(self._expected)
        self._shares = dict.fromkeys(files, 0.0)
        self._lock, self._jobs = threading.RLock(), jobs
        self._console, self._clock = console or Console(), clock
        self._told = clock()
        self._began: dict[str, float] = {}
        self._slowness, self._spent, self._foreseen = 1.0, 0.0, 0.0
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[text]}"))
        self._bar = Progress(*columns, console=self._console, refresh_per_second=REDRAWS)
        self._task = self._bar.add_task("benchmarks", total=sum(self._expected.values()), text="")

    def __enter__(self) -> "RunProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def begin(self, file: str) -> None:
        """A file is run now."""
        with self._lock:
            self._began[file] = self._clock()
            self._show(file, "", always=True)

    def update(self, file: str, done: int, total: int) -> None:
        """So many of its benchmarks are done."""
        with self._lock:
            self._shares[file] = done / total
            self._show(file, f" {done}/{total}")

    def end(self, file: str, text: str) -> float:
        """It is done; returns the seconds that it took."""
        with self._lock:
            took = self._clock() - self._began[file]
            self._spent, self._foreseen = self._spent + took, self._foreseen + self._left.pop(file)
            # A machine that is slower than the last time will be so with the files to come as well.
            self._slowness = self._spent / self._foreseen
            self._bar.update(self._task, completed=self._foreseen)
            self._console.print(f"{file}: {text}, {took:.0f} s", markup=False, highlight=False, soft_wrap=True)
            return took

    def _show(self, file: str, at: str, *, always: bool = False) -> None:
        begun = sum(self._shares[name] * seconds for name, seconds in self._left.items())
        seconds = self._slowness * (sum(self._left.values()) - begun) / self._jobs
        text = f"{file}{at}, about {timedelta(seconds=round(max(0.0, seconds)))} left"
        self._bar.update(self._task, completed=self._foreseen + begun, text=text)
        now = self._clock()
        if not self._console.is_terminal and (always or now - self._told >= EVERY_S):
            self._told = now
            print(text, file=self._console.file, flush=True)
