"""Arms in processes of their own, some at a time; a process that dies is one failed arm and no more."""

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from regioncap.experiments.worker import ArmJob, Message, run_arm


class ArmWorkers:
    """Runs jobs, at most `at_once` at a time, and hands their messages over as they come.

    Iterating yields (job, None) when a job starts and (job, message) after that; a job's last message has `done` or
    `error`. Leaving the context ends what still runs. Each process has a pipe of its own: one that is killed while it
    writes would leave a shared queue locked, and every other arm waiting for it.
    """

    def __init__(self, jobs: Sequence[ArmJob], at_once: int) -> None:
        self._waiting = list(jobs)
        self._at_once = at_once
        # Fresh interpreters: a fork of a process that runs torch's threads can hang.
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[Connection, tuple[ArmJob, BaseProcess]] = {}

    def __enter__(self) -> "ArmWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in self._running.values():
            process.terminate()
        for _, process in self._running.values():
            process.join()

    def __iter__(self) -> Iterator[tuple[ArmJob, Message | None]]:
        yield from self._fill()
        while self._running:
            for ready in wait(list(self._running)):
                assert isinstance(ready, Connection)
                job, process = self._running[ready]
                message = _receive(ready, job, process)
                if message.done or message.error is not None:
                    process.join()
                    ready.close()
                    del self._running[ready]
                    yield from self._fill()  # before the caller scores what is done: no core waits for that
                yield job, message

    def _fill(self) -> Iterator[tuple[ArmJob, None]]:
        while self._waiting and len(self._running) < self._at_once:
            job = self._waiting.pop(0)
            yield job, None
            self._start(job)

    def _start(self, job: ArmJob) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run_arm, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()  # the worker holds the only writing end, so that its death ends the pipe
        self._running[ours] = job, process


def _receive(connection: Connection, job: ArmJob, process: BaseProcess) -> Message:
    """The next message; for a process that ended without a last one, how it ended."""
    try:
        message: Message = connection.recv()
        return message
    except (EOFError, OSError, pickle.UnpicklingError):
        process.join()
        code = process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"status {code}"
        return Message(job=job.name, error=f"its process ended with {how} (out of memory, or killed)")
