"""The runs of a study as its outbox knows them, MLflow's ids among it where MLflow has made them."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regioncap.experiments.scoring.whole_file import write_whole
from regioncap.experiments.tracking.outbox_file import OutboxFile

_RUNS = "mlflow_runs.json"
"""File in a study's folder, for whoever wants to find its runs: name -> MLflow's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run."""

    number: int
    """Its name in the outbox; a study's name for a run may come to stand for another one."""
    name: str
    mark: str
    """Value of the tag by which MLflow finds the run again, should the answer to its creation be lost."""
    run_id: str | None
    """None until MLflow has made it."""
    definition: Mapping[str, Any]
    """Title, tags, number of the parent, parameters, config and time of start; empty for a run that was adopted."""
    complete: bool
    """Whether parameters and config have been logged."""
    doubtful: bool
    """Whether a call that makes it was sent and not answered: MLflow may yet make one run too many."""


class RunRecords:
    """The runs of one outbox."""

    def __init__(self, file: OutboxFile) -> None:
        self._file = file

    def __getitem__(self, number: int) -> RunRecord:
        ((name, mark, run_id, definition, complete, doubtful),) = self._file.rows(
            "SELECT name, mark, run_id, definition, complete, doubtful FROM runs WHERE number = ?", number
        )
        return RunRecord(
            number=number,
            name=name,
            mark=mark,
            run_id=run_id,
            definition=json.loads(definition),
            complete=bool(complete),
            doubtful=bool(doubtful),
        )

    def number(self, name: str) -> int:
        """The number of the run that a name stands for."""
        number = self._known(name)
        assert number is not None, f"no run {name!r} was begun"
        return number

    def ids(self) -> dict[str, str]:
        """MLflow's ids of the runs that it has, by name."""
        return dict(self._file.rows("SELECT name, run_id FROM runs WHERE run_id IS NOT NULL ORDER BY number"))

    def doubtful(self) -> list[RunRecord]:
        """Runs that MLflow may have made twice."""
        found = self._file.rows("SELECT number FROM runs WHERE doubtful AND run_id IS NOT NULL")
        return [self[number] for (number,) in found]

    def begin(self, name: str, definition: Mapping[str, Any], run_id: str | None) -> int:
        """The run of this name, or a new one if there is none or its config was another; see `Outbox.begin`."""
        known = self._known(name)
        if known is not None and definition["parent"] is not None:
            before = self[known].definition
            if before and before["config"] != json.loads(json.dumps(definition["config"])):
                known = run_id = None
        if known is None:
            return self._insert(name, definition, run_id)
        if not self[known].definition:
            self._file.write("UPDATE runs SET definition = ? WHERE number = ?", self._stored(definition), known)
        return known

    def adopt(self, name: str, run_id: str) -> None:
        """Know MLflow's run by this name from now on."""
        with self._file.writing():
            known = self._known(name)
            if known is None or self[known].run_id != run_id:
                self._insert(name, {}, run_id)

    def note(
        self,
        number: int,
        *,
        run_id: str | None = None,
        complete: bool | None = None,
        doubtful: bool | None = None,
    ) -> None:
        """What MLflow did with a run; None leaves a field as it is."""
        with self._file.writing():
            for column, value in (("run_id", run_id), ("complete", complete), ("doubtful", doubtful)):
                if value is not None:
                    self._file.write(f"UPDATE runs SET {column} = ? WHERE number = ?", value, number)

    def forget(self, number: int) -> None:
        """MLflow has the run no longer: it is to be made anew, and points that are reported again are new there."""
        with self._file.writing():
            self._file.write("UPDATE runs SET run_id = NULL, complete = 0, doubtful = 0 WHERE number = ?", number)
            for table in ("points", "scores"):
                self._file.write(f"DELETE FROM {table} WHERE run = ?", number)

    def _known(self, name: str) -> int | None:
        found: int | None = self._file.rows("SELECT max(number) FROM runs WHERE name = ?", name)[0][0]
        return found

    def _insert(self, name: str, definition: Mapping[str, Any], run_id: str | None) -> int:
        number = self._file.write(
            "INSERT INTO runs (name, mark, run_id, definition, complete) VALUES (?, ?, ?, ?, ?)",
            name,
            uuid.uuid4().hex,
            run_id,
            self._stored(definition),
            run_id is not None,
        ).lastrowid
        assert number is not None
        return number

    def _stored(self, definition: Mapping[str, Any]) -> str:
        if parent := definition.get("parent"):
            definition = {**definition, "parent": self.number(parent)}
        return json.dumps(definition)


def stored_run_ids(folder: Path) -> dict[str, str]:
    """MLflow's ids of a study's runs, by name; those of studies without an outbox stand here alone."""
    try:
        stored: dict[str, str] = json.loads((folder / _RUNS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return stored


def store_run_ids(folder: Path, ids: Mapping[str, str]) -> None:
    """Add to them."""
    write_whole(folder / _RUNS, json.dumps(stored_run_ids(folder) | dict(ids), indent=1))
