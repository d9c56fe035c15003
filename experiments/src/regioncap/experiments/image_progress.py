"""How many images are encoded, how fast, and how long the rest will take."""

import multiprocessing
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from regioncap.experiments.progress import EVERY_S, REDRAWS

_SHORT_S = 1.0
"""Who waits no longer is not told how long it took."""


class ImageProgress:
    """A bar on a terminal, a line now and then in a log file; silent in a worker process. A context manager.

    The speed counts from the first images on: loading a library or waiting for a lock is no work on images.
    """

    def __init__(
        self, description: str, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._description, self._console, self._clock = description, console or Console(), clock
        self._silent = multiprocessing.parent_process() is not None
        self._bar: Progress | None = None
        self._first: tuple[float, int] | None = None
        self._told = self._started = clock()
        self._done = 0

    def __enter__(self) -> "ImageProgress":
        self._told = self._started = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        seconds = self._clock() - self._started
        if self._done and seconds > _SHORT_S and error is None and not self._silent:
            self._tell(
                f"{self._done:,} images in {timedelta(seconds=round(seconds))}, {self._done / seconds:.0f} images/s"
            )

    def update(self, done: int, total: int) -> None:
        """So many of `total` images are encoded."""
        self._done = done
        if self._silent:
            return
        now = self._clock()
        if self._first is None:
            self._first = now, done
        speed = self._speed(now)
        if self._console.is_terminal:
            self._draw(done, total, speed)
        elif now - self._told >= EVERY_S:
            self._told = now
            left = f", {timedelta(seconds=round((total - done) / speed))} left" if speed else ""
            self._tell(f"{done:,}/{total:,}, {speed:.0f} images/s{left}")

    def _speed(self, now: float) -> float:
        assert self._first is not None
        since, already = self._first
        return (self._done - already) / (now - since) if now > since else 0.0

    def _draw(self, done: int, total: int, speed: float) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, refresh_per_second=REDRAWS)
            self._bar.add_task(self._description, total=total, speed="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, speed=f"{speed:.0f} images/s" if speed else "")

    def _tell(self, text: str) -> None:
        print(f"{self._description}: {text}", file=self._console.file, flush=True)
