"""What is to be logged, on disk until MLflow has taken it.

An SQLite file and not lines that are appended: whether a point was put in before is asked of an index, what was
delivered is taken out, and a second command may have it open. A call is one transaction, synchronous to the disk.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regioncap.experiments.tracking.outbox_file import OutboxFile
from regioncap.experiments.tracking.run_records import RunRecords

POINTS_AT_ONCE = 1000
"""Points that MLflow takes in one call."""
_FILE = "outbox.db"
_YOUNG_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to be logged."""

    seq: int
    run: int
    """Number of the run in the outbox."""
    kind: str
    """`run`, `points`, `tags`, `inputs`, `files`, `model`, `children` or `end`: see `MlflowWriter`."""
    content: Any


class Outbox:
    """Entries in order, in `folder`; the files that they need are copied beside them. Any thread may call.

    Raises OSError if the disk does not take an entry.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._copies = folder / "files"
        self._copies.mkdir(parents=True, exist_ok=True)
        self._file = OutboxFile(folder / _FILE)
        self.runs = RunRecords(self._file)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether there is one."""
        return (folder / _FILE).exists()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def about(self) -> dict[str, str]:
        """The store and experiment that its runs belong to."""
        return dict(self._file.rows("SELECT key, value FROM about"))

    def remember(self, **values: str) -> None:
        """Keep what `about` returns."""
        with self._file.writing():
            for key, value in values.items():
                self._file.write("INSERT OR REPLACE INTO about VALUES (?, ?)", key, value)

    def begin(self, name: str, definition: Mapping[str, Any], run_id: str | None = None) -> None:
        """Take up the run of this name or, if there is none or its config was another, begin one.

        `run_id` is that of a run which MLflow has and the outbox does not know. A run without a parent is a whole
        study: it goes on whatever its config.
        """
        with self._file.writing():
            self._insert(self.runs.begin(name, definition, run_id), "run", {})

    def put(self, name: str, kind: str, content: Any) -> None:
        """Put in an entry of any kind but points and files."""
        with self._file.writing():
            self._insert(self.runs.number(name), kind, content)

    def put_curve(self, name: str, step: int, values: Mapping[str, float], time_ms: int) -> None:
        """Put in the points that were not in at this step before: a training that was killed reports some again."""
        with self._file.writing():
            run = self.runs.number(name)
            new = [key for key in values if self._is_first(run, key, step)]
            self._insert_points(run, [[key, values[key], time_ms, step] for key in new])

    def put_scores(self, name: str, values: Mapping[str, float], time_ms: int) -> None:
        """Put in figures without a step, unless they are those that were put in last."""
        with self._file.writing():
            run = self.runs.number(name)
            last = dict(self._file.rows("SELECT key, value FROM scores WHERE run = ?", run))
            new = {key: value for key, value in values.items() if last.get(self._key(key)) != repr(value)}
            for key, value in new.items():
                self._file.write("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", run, self._key(key), repr(value))
            self._insert_points(run, [[key, value, time_ms, 0] for key, value in new.items()])

    def put_files(
        self, name: str, fill: Callable[[Path], object], to: str | None = None, *, once: tuple[str, int] | None = None
    ) -> None:
        """Put in the files that `fill` writes into the folder it is given, for the folder `to` of the run's artifacts.

        `once` is a name and a step: what has the same ones as files before is left out.
        """
        label = uuid.uuid4().hex
        folder = self._copies / label
        folder.mkdir()
        fill(folder)
        _sync(folder)
        with self._file.writing():
            run = self.runs.number(name)
            new = once is None or self._is_first(run, f"files/{once[0]}", once[1])
            if new:
                self._insert(run, "files", {"folder": label, "to": to})
        if not new:
            shutil.rmtree(folder)

    def next_step(self, name: str, key: str) -> int:
        """The step behind the last one of a curve."""
        found = self._file.rows(
            "SELECT max(step) FROM points WHERE run = ? AND key = (SELECT number FROM keys WHERE key = ?)",
            self.runs.number(name),
            key,
        )
        return 0 if found[0][0] is None else int(found[0][0]) + 1

    def waiting(self) -> int:
        """Entries that MLflow has not taken yet, without refused ones."""
        return int(self._file.rows("SELECT count(*) FROM entries WHERE refused IS NULL")[0][0])

    def refused(self) -> list[tuple[str, str]]:
        """Run and reason of what MLflow did not want."""
        return self._file.rows(
            "SELECT name, refused FROM entries JOIN runs ON number = run WHERE refused IS NOT NULL ORDER BY seq"
        )

    def head(self) -> list[Entry]:
        """The oldest entry. With one of points come those of its run behind it, as many as MLflow takes at once."""
        first = self._entries("refused IS NULL ORDER BY seq LIMIT 1")
        if not first or first[0].kind != "points":
            return first
        taken, count = [], 0
        for entry in self._entries(f"refused IS NULL AND run = ? ORDER BY seq LIMIT {POINTS_AT_ONCE}", first[0].run):
            count += len(entry.content)
            if entry.kind != "points" or count > POINTS_AT_ONCE:
                break
            taken.append(entry)
        return taken

    def done(self, entries: Sequence[Entry]) -> None:
        """MLflow has these."""
        with self._file.writing():
            for entry in entries:
                self._file.write("DELETE FROM entries WHERE seq = ?", entry.seq)
        for entry in entries:
            if entry.kind == "files":
                shutil.rmtree(self.files_of(entry), ignore_errors=True)

    def refuse(self, entries: Sequence[Entry], why: str) -> None:
        """MLflow does not want these; they are kept."""
        with self._file.writing():
            for entry in entries:
                self._file.write("UPDATE entries SET refused = ? WHERE seq = ?", why, entry.seq)

    def offer_refused_again(self) -> None:
        """What was not wanted once may be wanted now: a run may have been restored."""
        with self._file.writing():
            self._file.write("UPDATE entries SET refused = NULL WHERE refused IS NOT NULL")

    def files_of(self, entry: Entry) -> Path:
        """The folder of an entry's files."""
        return self._copies / str(entry.content["folder"])

    def sweep(self) -> None:
        """Remove copies without an entry, which a kill leaves behind; young ones may be about to get theirs."""
        named = {self.files_of(entry) for entry in self._entries("kind = 'files'")}
        for folder in self._copies.iterdir():
            if folder not in named and time.time() - folder.stat().st_mtime > _YOUNG_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _insert_points(self, run: int, points: Sequence[Any]) -> None:
        for start in range(0, len(points), POINTS_AT_ONCE):
            self._insert(run, "points", points[start : start + POINTS_AT_ONCE])

    def _insert(self, run: int, kind: str, content: Any) -> None:
        self._file.write("INSERT INTO entries (run, kind, content) VALUES (?, ?, ?)", run, kind, json.dumps(content))

    def _is_first(self, run: int, key: str, step: int) -> bool:
        return (
            self._file.write("INSERT OR IGNORE INTO points VALUES (?, ?, ?)", run, self._key(key), step).rowcount == 1
        )

    def _key(self, key: str) -> int:
        found = self._file.rows("SELECT number FROM keys WHERE key = ?", key)
        number = found[0][0] if found else self._file.write("INSERT INTO keys (key) VALUES (?)", key).lastrowid
        assert isinstance(number, int)
        return number

    def _entries(self, which: str, *values: Any) -> list[Entry]:
        rows = self._file.rows(f"SELECT seq, run, kind, content FROM entries WHERE {which}", *values)
        return [Entry(seq=seq, run=run, kind=kind, content=json.loads(content)) for seq, run, kind, content in rows]


def _sync(folder: Path) -> None:
    """Onto the disk: an entry must not outlive its files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
