"""Where a study is kept: a journal file for the workers of one machine, a database for those of several.

(nothing)                            a journal in the study's folder
/shared/folder/any.journal           a journal file elsewhere
postgresql://user@host/database      PostgreSQL; the password comes from PGPASSWORD or ~/.pgpass
sqlite:////folder/any.db             SQLite, for a single command at a time
"""

import fcntl
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

JOURNAL = "study.journal"
HEARTBEAT_S = 15
"""Seconds between two signs of life of a command that holds trials in a database."""
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_ATTEMPTS = 8


class StorageError(ValueError):
    """A study's storage cannot be reached or used; the message names it, without its password."""


Requeue = Callable[[optuna.Study, FrozenTrial], None]
"""Called with a study and a trial whose owner died."""


def journal_of(url: str | None, out: Path) -> Path | None:
    """The journal file that a storage's name stands for; None for a database."""
    if url is None:
        return out / JOURNAL
    return None if "://" in url else Path(url)


def open_storage(url: str | None, out: Path, requeue: Requeue, heartbeat_s: int = HEARTBEAT_S) -> BaseStorage:
    """Open a storage, and make it where it is missing. Raises StorageError in one line."""
    journal = journal_of(url, out)
    if journal is not None:
        return _open_journal(journal)
    assert url is not None
    return _open_database(url, requeue, heartbeat_s)


def shown(url: str) -> str:
    """A database's address without its password, for people."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return f"{url.partition('://')[0]}://..." if "://" in url else "..."


class KernelLock(JournalFileOpenLock):
    """The lock of a journal as the kernel's own (flock): it ends with its process, however that ends.

    Optuna's locks are files, which a killed process leaves behind: everybody then waits for half a minute.
    """

    def __init__(self, journal: Path) -> None:
        self._file = journal.with_name(journal.name + ".lock").open("a")

    def acquire(self) -> bool:
        """Wait for the lock."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Let others have it."""
        fcntl.flock(self._file, fcntl.LOCK_UN)


def _open_journal(file: Path) -> BaseStorage:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = KernelLock(file)
        lock.acquire()
        try:
            _mend(file)
            backend: BaseJournalBackend = JournalFileBackend(str(file), lock_obj=lock)
        finally:
            lock.release()
        storage = JournalStorage(backend)
        storage.get_all_studies()  # what is no journal is seen now
        return storage
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(f"the journal {file} cannot be used ({error}); name another --storage or --out") from error


def _mend(file: Path) -> None:
    """Take away half a line that a machine left which stopped while it wrote: the next would be joined to it."""
    if not file.exists() or not (size := file.stat().st_size):
        return
    with file.open("rb+") as handle:
        if handle.read(1) != b"{":
            raise ValueError("it is there, and no journal")
        handle.seek(-1, os.SEEK_END)
        if handle.read(1) == b"\n":
            return
        handle.seek(max(0, size - 2**20))
        tail = handle.read()
        handle.truncate(size - len(tail) + tail.rfind(b"\n") + 1)


def _open_database(url: str, requeue: Requeue, heartbeat_s: int) -> BaseStorage:
    try:
        address = make_url(url)
        address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
        options = {"connect_timeout": 10} if address.drivername.startswith("postgresql") else {}
        for attempt in range(_ATTEMPTS):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
                    database = RDBStorage(
                        address.render_as_string(hide_password=False),
                        engine_kwargs={"pool_pre_ping": True, "connect_args": options},
                        heartbeat_interval=heartbeat_s,
                        grace_period=4 * heartbeat_s,
                        heartbeat_stale_trial_callback=requeue,
                    )
                # As Optuna's studies wrap it: finished trials are read once.
                return get_storage(database)
            except OperationalError:
                raise
            except (SQLAlchemyError, StorageInternalError):
                # Several commands that make the tables at the same moment are in each other's way, once.
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.2 * (attempt + 1))
    except ImportError as error:
        raise StorageError(f"{shown(url)}: no driver for it is installed: pip install 'regioncap[tune]'") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise StorageError(
            f"--storage {shown(url)} is no address that can be read: want postgresql://USER@HOST/DATABASE, or a "
            "journal file"
        ) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise StorageError(f"{shown(url)} cannot be reached ({_first_line(error)})") from error
    raise AssertionError("the loop returns or raises")


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
