"""Arms in processes of their own, some at a time; a process that dies is one failed arm and no more."""

import multiprocessing
import queue
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

from regioncap.experiments.worker import ArmJob, Message, run_arm

_POLL_S = 0.5


class ArmWorkers:
    """Runs jobs, at most `at_once` at a time, and hands their messages over as they come.

    Iterating yields (job, None) when a job starts and (job, message) after that; a job's last message has `done` or
    `error`. Leaving the context ends what still runs.
    """

    def __init__(self, jobs: Sequence[ArmJob], at_once: int) -> None:
        self._waiting = list(jobs)
        self._at_once = at_once
        # Fresh interpreters: a fork of a process that runs torch's threads can hang.
        self._context = multiprocessing.get_context("spawn")
        self._messages = self._context.Queue()
        self._running: dict[str, tuple[ArmJob, BaseProcess]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in self._running.values():
            process.terminate()
        for _, process in self._running.values():
            process.join()

    def __iter__(self) -> Iterator[tuple[ArmJob, Message | None]]:
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._at_once:
                job = self._waiting.pop(0)
                yield job, None
                process: BaseProcess = self._context.Process(target=run_arm, args=(job, self._messages), daemon=True)
                process.start()
                self._running[job.name] = job, process
            message = self._next_message()
            job, running = self._running[message.job]
            if message.done or message.error is not None:
                running.join()
                del self._running[message.job]
            yield job, message

    def _next_message(self) -> Message:
        while True:
            # Who is dead is looked up before the queue is: what a process sent before its death comes first.
            dead = [(job, process) for job, process in self._running.values() if not process.is_alive()]
            try:
                message: Message = self._messages.get(timeout=_POLL_S)
                return message
            except queue.Empty:
                for job, process in dead:
                    code = process.exitcode or 0
                    how = f"signal {-code}" if code < 0 else f"status {code}"
                    return Message(job=job.name, error=f"its process ended with {how} (out of memory, or killed)")
