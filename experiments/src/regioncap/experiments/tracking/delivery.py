"""A thread that carries an outbox's entries to MLflow, and waits as long as MLflow is away."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from regioncap.experiments.progress import track
from regioncap.experiments.tracking.mlflow_writer import MlflowWriter, RefusedError
from regioncap.experiments.tracking.outbox import Entry, Outbox
from regioncap.experiments.tracking.store import MlflowStore, known_uri, open_store, without_password

_GATHER_S = 0.5
"""Seconds for which points gather before they are sent: one call for many costs as much as one call for one."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
"""Between two tries; it doubles."""
_TRIES = 8
"""Of an entry on which a store that answers breaks down each time; about a minute, then it is set aside."""
_SILENT_S = 2.0
"""A wait that is shorter shows no progress."""
_POLL_S = 0.05
_RACED = ("IntegrityError", "UniqueViolation")
"""SQLite's and PostgreSQL's words in the text of a 400: another process wrote the same row first, as of a data set."""
_TEMPORARY = (401, 403, 408, 409, 429, 499)
"""Answers that say no, but not for ever: credentials run out, and servers are busy."""


class Delivery:
    """Carries the entries of `outbox` to the store of the studies under `home`, in order, into one experiment.

    Any number may be at one outbox; one of them carries at a time. It says in one line when the store goes away, when
    it is back, and where a model is.
    """

    def __init__(
        self,
        outbox: Outbox,
        home: Path,
        experiment: str,
        description: str = "",
    ) -> None:
        self._outbox, self._home = outbox, home
        self._experiment, self._description = experiment, description
        self._wake, self._urgent, self._over = threading.Event(), threading.Event(), threading.Event()
        self._settled = threading.Event()
        self._settled.set()
        self._thread = threading.Thread(target=self._run, name="mlflow-delivery", daemon=True)
        self._store: MlflowStore | None = None
        self._experiment_id = ""
        self._writer: MlflowWriter | None = None
        self._tries = self._since_away = self._singly_to = 0
        self._said: list[str] = []
        self._at = ""
        """The kind of entry that is being written."""
        self.away = False
        """Whether the store did not take the last that it was given."""
        store = outbox.about.get("store") or without_password(self.uri)
        outbox.remember(store=store, experiment=experiment, description=description)
        # MLflow would try one call for minutes; what fails is tried again here.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        # Not a line for every run that ends, amid the study's progress.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

    @property
    def uri(self) -> str:
        """The store's address. Raises UnreachableError if only one with a password leads to it."""
        return known_uri(self._home, self._outbox.about.get("store", ""))

    @property
    def store(self) -> MlflowStore:
        """The store; raises UnreachableError while it is not there."""
        return self._store or self.connect()

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        if self._store is None:
            self.connect()  # what makes it known
        return self._experiment_id

    def connect(self) -> MlflowStore:
        """Open the store. Raises UnreachableError if it does not answer."""
        store = open_store(self._home, self.uri)
        self._experiment_id = store.experiment(self._experiment, self._description)
        self._writer = MlflowWriter(self._outbox, store.client, self._experiment_id)
        self._store = store
        self._outbox.remember(store=store.shown)  # that of a wrong address would be asked again
        return store

    def is_away(self, why: Exception) -> None:
        """Say, once, that the store takes nothing now."""
        if not self.away:
            self.away = True
            _say(
                f"MLflow's store {without_password(self.uri)} takes nothing now ({_line(why)}): work goes on, what is "
                f"to be logged is kept in {self._outbox.folder} and delivered later"
            )

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to carry."""
        self._wake.set()

    def wait(self, patience_s: float) -> bool:
        """Wait until everything is delivered; returns whether it is.

        Gives up when the store has taken nothing for `patience_s` seconds.
        """
        return self._waited(self._deliveries(patience_s))

    def finish(self, patience_s: float) -> bool:
        """`wait` with a progress bar if it takes long: for the end of a command, where no other is shown."""
        quick = self._deliveries(min(patience_s, _SILENT_S), time.monotonic() + _SILENT_S)
        if self._waited(quick):
            return True
        left = self._outbox.waiting()
        told = track(self._deliveries(patience_s), description="MLflow: delivering what was kept", total=left)
        return self._waited(told)

    def close(self) -> None:
        """End the thread; what is not delivered stays in the outbox. A call that hangs is left to itself."""
        self._over.set()
        self._urgent.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _waited(self, deliveries: Iterator[None]) -> bool:
        self._outbox.offer_refused_again()
        self._urgent.set()
        self.wake()
        try:
            for _ in deliveries:
                pass
            delivered = not self._outbox.waiting()
            if delivered:
                self._settled.wait(_SILENT_S)
        finally:
            self._urgent.clear()
        return delivered

    def _deliveries(self, patience_s: float, until: float = float("inf")) -> Iterator[None]:
        """One item for every entry that is delivered while somebody waits."""
        left, last = self._outbox.waiting(), time.monotonic()
        while left and (now := time.monotonic()) < min(last + patience_s, until):
            time.sleep(_POLL_S)
            if self._at == "model":
                last = now  # it is large: that nothing else is delivered says nothing of the store
            if (fewer := self._outbox.waiting()) < left:
                yield from (None for _ in range(left - fewer))
                left, last = fewer, now

    def _run(self) -> None:
        with _only_one(self._outbox.folder / "delivery.lock", self._over) as alone:
            if not alone:
                return
            self._outbox.sweep()
            self._outbox.offer_refused_again()
            while not self._over.is_set():
                try:
                    self._take_turn()
                except OSError:  # the outbox's own disk: whoever puts something in hears of it
                    self._over.wait(_LONGEST_WAIT_S)

    def _take_turn(self) -> None:
        self._wake.clear()
        entries = self._outbox.head()
        if not entries:
            self._settle()
            self._settled.set()
            self._wake.wait()
            self._urgent.wait(_GATHER_S)
            return
        self._settled.clear()
        if entries[0].seq <= self._singly_to:
            entries = entries[:1]
        if (trouble := self._carry(entries)) is not None:
            self._be_patient(entries, trouble)

    def _carry(self, entries: Sequence[Entry]) -> Exception | None:
        """Deliver these; returns what went wrong."""
        try:
            if self._writer is None:
                self.connect()
            assert self._writer is not None
            self._at = entries[0].kind
            told = self._writer.write(entries)
        except Exception as error:
            return error
        finally:
            self._at = ""
        self._outbox.done(entries)
        self._tries = 0
        if self.away:
            self._since_away += len(entries)
        if told:
            _say(told)
        return None

    def _settle(self) -> None:
        """All is delivered: say so if it was not for a while."""
        if self._writer is None:
            return
        try:
            self._writer.settle()
        except (MlflowException, OSError, SQLAlchemyError):
            return  # tried again when all is delivered again
        if self.away:
            assert self._store is not None
            _say(f"MLflow's store {self._store.shown} is back: what was kept is delivered ({self._since_away} entries)")
            self.away, self._since_away = False, 0

    def _be_patient(self, entries: Sequence[Entry], trouble: Exception) -> None:
        """Set aside what is refused; for a store that is away, wait."""
        absent = self._absent()
        self._tries += 1
        if absent is None and (_is_final(trouble) or self._tries > _TRIES):
            if len(entries) > 1:
                self._singly_to = entries[-1].seq  # it may be one of them
            else:
                self._refuse(entries, trouble)
            self._tries = 0
            return
        self.is_away(absent or trouble)
        wait_s = min(_FIRST_WAIT_S * 2 ** (self._tries - 1), _LONGEST_WAIT_S)
        until = time.monotonic() + wait_s
        while time.monotonic() < until and not self._over.is_set():
            if self._urgent.is_set() and until > time.monotonic() + 1:
                until = time.monotonic() + 1  # somebody waits
            self._over.wait(0.1)

    def _absent(self) -> Exception | None:
        """Why the store does not answer; None if it does."""
        try:
            self.connect()
        except Exception as error:
            self._writer = None
            return error
        return None

    def _refuse(self, entries: Sequence[Entry], trouble: Exception) -> None:
        why = _line(trouble)
        self._outbox.refuse(entries, why)
        run = self._outbox.runs[entries[0].run].name
        if run not in self._said:
            self._said.append(run)
            _say(f"MLflow refuses what is to be logged of {run!r} ({why}): it is kept in {self._outbox.folder}")


@contextmanager
def _only_one(file: Path, over: threading.Event) -> Iterator[bool]:
    """Hold a lock that one delivery has at a time; False if it was to end before it came to that."""
    with file.open("a") as handle:
        while not over.is_set():
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                over.wait(0.2)
            else:
                yield True
                return
        yield False


def _is_final(trouble: Exception) -> bool:
    """Whether a store that answers will never take it."""
    match trouble:
        case RefusedError():
            return True
        case MlflowException() if any(name in str(trouble) for name in _RACED):
            return False
        case MlflowException():
            status = trouble.get_http_status_code()  # type: ignore[no-untyped-call]
        case requests.HTTPError() if trouble.response is not None:
            status = trouble.response.status_code
        case OSError() | SQLAlchemyError():
            return False
        case _:
            return True
    return 400 <= status < 500 and status not in _TEMPORARY


def _say(line: str) -> None:
    print(line, flush=True)


def _line(trouble: BaseException) -> str:
    """What lies at the bottom of it, such as `[Errno 111] Connection refused`."""
    while (deeper := trouble.__cause__ or trouble.__context__) is not None:
        trouble = deeper
    return " ".join(str(trouble).split())[:200] or type(trouble).__name__
