"""SPICE's parses on disk: a caption's parse never changes, and parsing is nearly all that SPICE costs."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

Tuples = list[list[str]]
"""What SPICE reads out of a caption: objects [o], attributes [o, a] and relations [o, o2, r]."""

_WAIT_S = 60.0
"""Seconds to wait for another study that writes; a write takes milliseconds."""
_ASKED_AT_ONCE = 500
"""Captions of one query: below the number of variables that every SQLite takes."""


class ParseStore:
    """Caption -> tuples in an SQLite file that any number of processes share.

    Its journal is SQLite's default one, which needs no shared memory and so works on a cluster's network folders. A
    file that is damaged is set aside; where it cannot be read or written, the parses are kept in memory alone and
    `problem` says why.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problem: str | None = None
        self._memory: dict[str, Tuples] = {}
        self._connection: sqlite3.Connection | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = _open(file)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                file.replace(file.with_name(f"{file.name}.damaged"))
                self._connection = _open(file)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def get(self, captions: Sequence[str]) -> dict[str, Tuples]:
        """Those captions that were parsed before."""
        known = {caption: self._memory[caption] for caption in captions if caption in self._memory}
        wanted = [caption for caption in dict.fromkeys(captions) if caption not in known]
        if self._connection is None:
            return known
        try:
            for start in range(0, len(wanted), _ASKED_AT_ONCE):
                some = wanted[start : start + _ASKED_AT_ONCE]
                query = f"SELECT caption, tuples FROM parses WHERE caption IN ({','.join('?' * len(some))})"
                for caption, tuples in self._connection.execute(query, some):
                    known[caption] = json.loads(tuples)
        except (sqlite3.Error, ValueError) as error:
            self._give_up(error)
        return known

    def put(self, parses: Mapping[str, Tuples]) -> None:
        """Keep parses; once this returns, killing the process does not lose them."""
        if self._connection is not None:
            rows = [(caption, json.dumps(tuples)) for caption, tuples in parses.items()]
            try:
                with self._connection:
                    self._connection.executemany("INSERT OR IGNORE INTO parses VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                self._give_up(error)
        if self._connection is None:
            self._memory |= parses

    def _give_up(self, error: Exception) -> None:
        self.problem = f"SPICE's parses cannot be kept in {self.file} ({error})"
        if self._connection is not None:
            with closing(self._connection):
                self._connection = None


def _open(file: Path) -> sqlite3.Connection:
    # Made in one thread and used by another, but never by two at once.
    connection = sqlite3.connect(file, timeout=_WAIT_S, check_same_thread=False)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS parses (caption TEXT PRIMARY KEY, tuples TEXT NOT NULL) WITHOUT ROWID"
    )
    return connection
