"""The SQLite file of an outbox: its tables, and transactions that any thread may make."""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_BUSY_S = 60
"""Seconds that another command may hold the file."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, mark TEXT NOT NULL, run_id TEXT, definition TEXT NOT NULL,
    complete INTEGER NOT NULL, doubtful INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS runs_of_name ON runs (name);
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL,
    refused TEXT);
CREATE INDEX IF NOT EXISTS entries_of_run ON entries (run, seq);
CREATE TABLE IF NOT EXISTS keys (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS points (
    run INTEGER, key INTEGER, step INTEGER, PRIMARY KEY (run, key, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (run INTEGER, key INTEGER, value TEXT, PRIMARY KEY (run, key)) WITHOUT ROWID;
"""


class OutboxFile:
    """The open file. Synchronous to the disk: what a transaction has written survives `kill -9` and a power cut.

    Raises OSError in one line if the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        # Two that turn one fresh file to write-ahead logging at once do not wait for each other: one of them fails.
        with path.with_name("opening.lock").open("a") as alone, self._told():
            fcntl.flock(alone, fcntl.LOCK_EX)
            self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_SCHEMA)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What a query finds."""
        with self._lock, self._told():
            return self._database.execute(query, values).fetchall()

    def write(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute a statement; only within `writing`."""
        assert self._depth
        return self._database.execute(statement, values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: all of it or nothing; one within another is a part of it."""
        with self._lock, self._told():
            if not self._depth:
                self._database.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._database.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise OSError(
                f"{self.path} does not take what is to be logged ({error}): make room on its disk, or end the command "
                "that holds it"
            ) from error
