"""What a person sees while something runs: live bars on a terminal, a plain line now and then in a log file."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import RLock
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar("Item")
EVERY_S = 20.0
"""Seconds between two lines of the same job in a log file."""
SHOWN: dict[str, Callable[[int | float], str]] = {
    "loss": "loss {:.3f}".format,
    "generation": "words {:.3f}".format,
    "alignment": "alignment {:.3f}".format,
    "keywords": "keywords {:.2f}".format,
    "teacher": "teacher {:.3f}".format,
    "reward": "reward {:.3f}".format,
    "ap50": lambda fraction: f"dev AP50 {100 * fraction:.1f}",
    "cider": lambda fraction: f"dev CIDEr {100 * fraction:.1f}",
    "images_per_s": "{:.0f} images/s".format,
}
"""The values that a person waits for; MLflow has them all. CIDEr is a fraction, shown in percent."""
REDRAWS = 4
"""Redraws of the terminal a second: Rich's ten cost a visible share of a small machine."""


def shown_values(values: Mapping[str, float]) -> dict[str, float]:
    """What a progress line shows of a report of training: `SHOWN` has the names."""
    names = {"loss.total": "loss", "dev.cider": "cider", "images_per_s": "images_per_s", "reward.mean": "reward"}
    terms = {name: name.removeprefix("loss.") for name in values if name.startswith("loss.") and name != "loss.total"}
    return {shown: values[name] for name, shown in (names | terms).items() if name in values}


def track(
    items: Iterable[Item],
    *,
    description: str,
    total: int | None = None,
    completed: int = 0,
    says: Callable[[], str] = str,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Yield the items and show how far their consumer is, and behind it what `says` returns, such as a loss.

    `completed` of the `total` were done by an earlier call and are not among the items. A log file gets a line every
    `EVERY_S` seconds, so none for short loops. Silent in a worker process: the terminal is its parent's, which shows a
    `StudyProgress`.
    """
    if multiprocessing.parent_process() is not None:
        yield from items
        return
    console = console or Console()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}", markup=False),
        )
        with Progress(*columns, console=console, refresh_per_second=REDRAWS) as progress:
            task = progress.add_task(description, total=total, completed=completed, said=says())
            for item in items:
                yield item
                progress.update(task, advance=1, said=says())
        return
    started = last = clock()
    of = "" if total is None else f"/{total}"
    done = completed
    for item in items:
        yield item
        done += 1
        now = clock()
        if now - last >= EVERY_S:
            last = now
            left = "" if total is None else f", {_minutes((now - started) / (done - completed) * (total - done))} left"
            print(f"{description}: {done}{of}{left}  {says()}".rstrip(), file=console.file, flush=True)
    if last > started:
        print(f"{description}: {done}{of} in {_minutes(clock() - started)}", file=console.file, flush=True)


class ByteProgress:
    """How much of a download has come, and how long the rest will take. Used as a context manager.

    A terminal shows a bar; a log file gets a line every `EVERY_S` seconds, so none for a short one.
    """

    def __init__(
        self,
        description: str,
        *,
        total: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._description = description
        self._total = total
        self._kept = self._came = 0
        self._console = console or Console()
        self._clock = clock
        self._started = self._told = clock()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, refresh_per_second=REDRAWS)
        self._task = self._bar.add_task(description, total=total)

    def __enter__(self) -> "ByteProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def extend(self, count: int) -> None:
        """There are so many bytes more to come than was thought."""
        self._total += count
        self._bar.update(self._task, total=self._total)

    def advance(self, count: int, *, kept: bool = False) -> None:
        """So many bytes more are there. Those kept from an earlier run say nothing about the speed."""
        if kept:
            self._kept += count
            self._bar.reset(self._task, completed=self._kept + self._came)
            return
        self._came += count
        self._bar.update(self._task, advance=count)
        now = self._clock()
        if not self._console.is_terminal and now - self._told >= EVERY_S:
            self._told = now
            done = self._kept + self._came
            left = _minutes((now - self._started) / self._came * (self._total - done))
            line = f"{self._description}: {done / 1e6:.1f}/{self._total / 1e6:.1f} MB, {left} left"
            print(line, file=self._console.file, flush=True)


class StudyProgress:
    """Several jobs at once: a line for each that runs and one for the whole study. Any thread may call the methods.

    A terminal shows bars; elsewhere a job prints a line when it starts and ends, and every `EVERY_S` seconds between.
    `jobs` is how many there will be. Used as a context manager.
    """

    def __init__(
        self, jobs: int, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if jobs < 1:
            raise ValueError(f"a study of {jobs} jobs has no progress to show; want at least 1")
        self._count = jobs
        self._clock = clock
        self._lock = RLock()
        self._running: dict[str, _Job] = {}
        self._over = 0
        self._kept = 0.0
        """Of the jobs that are over, the shares that an earlier run had done."""
        self._started = clock()
        self._console = console or Console()
        self._bars = _Bars(self._console, jobs) if self._console.is_terminal else None

    def __enter__(self) -> "StudyProgress":
        self._started = self._clock()
        if self._bars:
            self._bars.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.live.stop()

    def start(self, job: str, total: int) -> None:
        """A job begins; it will take `total` steps."""
        with self._lock:
            now = self._clock()
            self._running[job] = _Job(total=total, started=now, told=now)
            if self._bars:
                self._bars.add(job, total)
            else:
                self._tell(f"{job}: starts, {total} steps")

    def recall(self, job: str, step: int, **values: int | float) -> None:
        """An earlier run had done `step` steps: they say nothing about the speed. Called before any `update`."""
        with self._lock:
            state, now = self._running[job], self._clock()
            state.first, state.started = step, now
            state.step = state.kept_steps = step
            state.values |= values
            if self._bars:
                self._bars.move(job, step, state.describe(now), *self._overall(now))

    def update(self, job: str, step: int, **values: int | float) -> None:
        """A job has done `step` steps; of what it measured, the values named in `SHOWN` appear.

        A value that an update does not mention stays as it was: dev CIDEr is measured less often than the loss.
        """
        with self._lock:
            state, now = self._running[job], self._clock()
            if state.first is None:
                state.first, state.started = step, now
            state.step = step
            state.values |= values
            if self._bars:
                self._bars.move(job, step, state.describe(now), *self._overall(now))
            elif now - state.told >= EVERY_S:
                state.told = now
                self._tell(f"{job}: {state.describe(now)}  |  {self._overall(now)[1]}")

    def finish(self, job: str, text: str) -> None:
        """A job is done; `text` is its result."""
        self._end(job, f"{job}: done, {text}", "green")

    def fail(self, job: str, text: str) -> None:
        """A job died, or was never able to start; `text` says of what."""
        self._end(job, f"{job}: FAILED, {text}", "bold red")

    def _end(self, job: str, line: str, style: str) -> None:
        with self._lock:
            ended = self._running.pop(job, None)
            self._over += 1
            self._kept += ended.kept if ended else 0.0
            if self._bars:
                self._bars.remove(job, line, style, *self._overall(self._clock()))
            else:
                self._tell(f"{line}  |  {self._overall(self._clock())[1]}")

    def _overall(self, now: float) -> tuple[float, str]:
        """Jobs that are done, with the running ones' shares, and what to say of the whole."""
        done = sum((state.step / max(1, state.total) for state in self._running.values()), float(self._over))
        here = done - self._kept - sum(state.kept for state in self._running.values())
        text = f"study {done / self._count:.0%}, {self._over}/{self._count} done"
        if here > 0 and done < self._count:
            text += f", {_minutes((now - self._started) / here * (self._count - done))} left"
        return done, text

    def _tell(self, line: str) -> None:
        print(line, file=self._console.file, flush=True)


@dataclass(slots=True, kw_only=True)
class _Job:
    total: int
    started: float
    """Of the first update: what comes before (imports, loading) says nothing about the speed."""
    told: float
    first: int | None = None
    """Step from which on this run is timed."""
    kept_steps: int = 0
    """Done by an earlier run."""
    step: int = 0
    values: dict[str, int | float] = field(default_factory=dict)

    @property
    def kept(self) -> float:
        """Share that an earlier run had done."""
        return self.kept_steps / max(1, self.total)

    def describe(self, now: float) -> str:
        parts = [f"{self.step}/{self.total}"]
        parts += [show(self.values[name]) for name, show in SHOWN.items() if name in self.values]
        done = self.step - (self.first or 0)
        if done > 0:
            parts.append(f"{_minutes((now - self.started) / done * (self.total - self.step))} left")
        return "  ".join(parts)


class _Bars:
    def __init__(self, console: Console, jobs: int) -> None:
        names = TextColumn("{task.description}", markup=False)
        values = TextColumn("{task.fields[text]}", markup=False)
        self.live = Progress(names, BarColumn(bar_width=24), values, console=console, refresh_per_second=REDRAWS)
        self._whole = self.live.add_task("study", total=jobs, text="")
        self._tasks: dict[str, TaskID] = {}

    def add(self, job: str, total: int) -> None:
        self._tasks[job] = self.live.add_task(job, total=total, text=f"0/{total}")

    def move(self, job: str, step: int, text: str, done: float, whole: str) -> None:
        self.live.update(self._tasks[job], completed=step, text=text)
        self.live.update(self._whole, completed=done, text=whole)

    def remove(self, job: str, line: str, style: str, done: float, whole: str) -> None:
        if job in self._tasks:
            self.live.remove_task(self._tasks.pop(job))
        self.live.console.print(line, style=style, markup=False, highlight=False)
        self.live.update(self._whole, completed=done, text=whole)


def _minutes(seconds: int | float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
