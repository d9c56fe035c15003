"""Trials in processes of their own, one thread each. A process serves many trials: starting one takes seconds.

A worker that dies is one lost trial and no more; another takes its place.
"""

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

import torch

from regioncap.experiments.metrics import CaptionScorer, MetricsConfig
from regioncap.experiments.tuning.run_trial import Pruned, Tell, run_trial
from regioncap.experiments.tuning.trial_job import Died, End, Point, TrialJob

Message = Point | End | Died


class TrialWorkers:
    """At most `count` trials at a time. Leaving the context ends what still runs."""

    def __init__(self, count: int, metrics: MetricsConfig) -> None:
        self._count, self._metrics = count, metrics
        # Fresh interpreters: a fork of a process that runs torch's threads can hang.
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, BaseProcess] = {}
        self._jobs: dict[Connection, TrialJob] = {}

    def __enter__(self) -> "TrialWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()

    @property
    def free(self) -> int:
        """Trials that could start now."""
        return self._count - len(self._jobs)

    @property
    def running(self) -> Mapping[int, TrialJob]:
        """The trials that run, by number."""
        return {job.number: job for job in self._jobs.values()}

    def start(self, job: TrialJob) -> None:
        """Hand a trial to an idle worker, or to a new one."""
        assert self.free > 0
        for connection in [each for each in self._processes if each not in self._jobs]:
            try:
                connection.send(job)
            except OSError:  # it died while it was idle
                self._forget(connection)
                continue
            self._jobs[connection] = job
            return
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._metrics))
        process.start()
        theirs.close()  # the worker holds the only other end, so that its death ends the pipe
        self._processes[ours] = process
        self._jobs[ours] = job
        ours.send(job)

    def answer(self, number: int, go_on: bool) -> None:
        """Tell a trial that waits behind a point on dev whether to go on."""
        (connection,) = [each for each, job in self._jobs.items() if job.number == number]
        with suppress(OSError):  # it died meanwhile: the next message says so
            connection.send(go_on)

    def messages(self, timeout_s: float) -> Iterator[tuple[TrialJob, Message]]:
        """What trials have to say; nothing if there is none within the time. An end makes a worker free."""
        for ready in wait(list(self._jobs), timeout_s):
            assert isinstance(ready, Connection)
            job = self._jobs[ready]
            try:
                message: Message = ready.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                message = Died(how=self._forget(ready))
            if not isinstance(message, Point):
                self._jobs.pop(ready, None)
            yield job, message

    def _forget(self, connection: Connection) -> str:
        process = self._processes.pop(connection)
        self._jobs.pop(connection, None)
        connection.close()
        process.join()
        code = process.exitcode or 0
        return (
            f"its process ended with {f'signal {-code}' if code < 0 else f'status {code}'} (out of memory, or killed)"
        )


def serve(connection: Connection, metrics: MetricsConfig) -> None:
    """The body of a worker: trials until the pipe ends, with one scorer for all of them."""
    # Ctrl-C goes to the whole group; the command ends its workers itself, and says so in one line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The command's own handler raises, and a worker that it was handed to would answer SIGTERM with a traceback.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    with metrics.build() as scorer:

        def tell(point: Point) -> bool:
            connection.send(point)
            return point.evaluation is None or bool(connection.recv())

        while True:
            try:
                job: TrialJob = connection.recv()
                connection.send(_end(job, scorer, tell))
            except (EOFError, OSError):
                return  # the command is gone


def _end(job: TrialJob, scorer: CaptionScorer, tell: Tell) -> End:
    try:
        return End(result=run_trial(job, scorer, tell))
    except Pruned:
        return End()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise  # not the trial's fault
    except Exception as error:
        return End(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
