"""Counts units of work: some to warm up, some timed, some traced, and then it is enough."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from regioncap.experiments.profiling.measured import Timed
from regioncap.experiments.profiling.spans import Spans
from regioncap.experiments.profiling.trace import Trace, traced
from regioncap.experiments.progress import track


class Enough(Exception):
    """All units are done: how a loop that would go on is left."""


class Clockwork:
    """`tick` is called after every unit of `images`; it moves from warming up to timing to tracing, into `file`.

    `waiting` is the stage that gets data: the others have to wait for it.
    """

    def __init__(
        self, spans: Spans, *, warm_up: int, timed: int, traced_units: int, images: int, waiting: str, file: Path
    ) -> None:
        self._spans, self._file, self._images, self._waiting = spans, file, images, waiting
        self._warm_up, self._timed, self._traced = warm_up, timed, traced_units
        self._done, self._started = 0, 0.0
        self._profiler = ExitStack()
        self._bar: Iterator[int] | None = None
        self.timed: Timed | None = None
        self.trace: Trace | None = None

    @property
    def units(self) -> int:
        """Of all kinds together."""
        return self._warm_up + self._timed + self._traced

    def tick(self) -> None:
        """A unit is done. Raises Enough after the last one."""
        self._done += 1
        self._show()
        if self._done == self._warm_up:
            self.begin()
        elif self._done == self._warm_up + self._timed:
            self.end(self._timed, self._timed * self._images)
            self._begin_trace()
        elif self._done == self.units:
            self._profiler.close()
            raise Enough

    def begin(self) -> None:
        """What comes now is timed."""
        self._spans.kept.clear()
        self._started = time.perf_counter()

    def end(self, units: int, images: int, *, threads: int = 1) -> None:
        """It was so much."""
        self.timed = Timed(
            units=units,
            images=images,
            wall_s=time.perf_counter() - self._started,
            seconds=self._spans.seconds(),
            waiting_s=self._spans.total(self._waiting),
            threads=threads,
        )

    @contextmanager
    def tracing(self, units: int) -> Iterator[None]:
        """Only trace, for so many units."""
        self._done, self._warm_up, self._timed, self._traced, self._bar = 0, 0, 0, units, None
        self._begin_trace()
        with self._profiler:
            yield

    def _show(self) -> None:
        # From the first unit on: before it stages are built and data made, with bars of their own.
        if self._bar is None:
            self._bar = track(range(self._done, self.units), description="profile", total=self.units, completed=1)
        next(self._bar, None)

    def _begin_trace(self) -> None:
        self._spans.wait_for_gpu = False
        self._profiler.enter_context(traced(self._file, self._take))

    def _take(self, trace: Trace) -> None:
        self.trace = trace
