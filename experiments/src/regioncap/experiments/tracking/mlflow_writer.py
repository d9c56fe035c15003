"""How each kind of entry is written into MLflow, so that one which is written twice stands there once.

A call whose answer is lost (a killed server, a killed process of ours, a time limit) is made again. Points repeat with
the time that they were given when they were put in, and MLflow's SQL stores keep (run, key, step, time, value) once;
parameters, tags, ends, inputs and files replace themselves. A run carries a mark of its own by which it is found again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param
from mlflow.exceptions import MlflowException

from regioncap.experiments.tracking.notes import RUN_ID
from regioncap.experiments.tracking.outbox import Entry, Outbox
from regioncap.experiments.tracking.run_records import RunRecord, store_run_ids

MARK = "regioncap.outbox"
"""The tag that holds a run's mark."""
_PARAMETERS_AT_ONCE = 100
"""What MLflow takes in one call."""


class RefusedError(Exception):
    """An entry that can never be written; the message says why."""


class MlflowWriter:
    """Writes entries of an outbox into one experiment of a store that answers."""

    def __init__(self, outbox: Outbox, client: MlflowClient, experiment_id: str) -> None:
        self._outbox, self._client, self._experiment_id = outbox, client, experiment_id
        self._met: dict[int, str] = {}
        """Runs that were seen in this store, by number."""
        self._write = {
            "run": self._open,
            "tags": self._tags,
            "inputs": self._inputs,
            "files": self._files,
            "model": self._model,
            "children": self._end_children,
            "end": self._end,
        }

    def write(self, entries: Sequence[Entry]) -> str:
        """Write one entry, or several of points of one run; returns what is worth telling, mostly nothing.

        Raises MlflowException, OSError or SQLAlchemyError if the store does not take it, RefusedError if it never can.
        """
        run = self._outbox.runs[entries[0].run]
        if entries[0].kind == "points":
            points = [Metric(*point) for entry in entries for point in entry.content]
            self._client.log_batch(self._run_id(run), metrics=points)
            return ""
        (entry,) = entries
        return self._write[entry.kind](run, entry) or ""

    def settle(self) -> None:
        """Delete the second run where a creation was asked for twice, and both were heard."""
        for run in self._outbox.runs.doubtful():
            for run_id in self._marked(run):
                if run_id != run.run_id:
                    self._client.delete_run(run_id)
            self._outbox.runs.note(run.number, doubtful=False)

    def _run_id(self, run: RunRecord) -> str:
        """MLflow's id of a run, which is made if MLflow has none of it."""
        if run.number not in self._met:
            run_id = run.run_id
            if run_id is not None and not self._exists(run_id):
                self._outbox.runs.forget(run.number)
                run = self._outbox.runs[run.number]
                run_id = None
            self._met[run.number] = run_id or self._made(run)
        return self._met[run.number]

    def _exists(self, run_id: str) -> bool:
        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def _made(self, run: RunRecord) -> str:
        if not run.definition:
            raise RefusedError(f"MLflow no longer has the run that {run.name!r} stood for")
        found = self._marked(run) if run.doubtful else []
        if not found:
            tags = {**run.definition["tags"], MARK: run.mark}
            if parent := run.definition["parent"]:
                tags["mlflow.parentRunId"] = self._run_id(self._outbox.runs[parent])
            self._outbox.runs.note(run.number, doubtful=True)
            title, started = run.definition["title"], run.definition["started"]
            found = [self._client.create_run(self._experiment_id, started, tags, title).info.run_id]
        # One that was asked for before may be late.
        self._outbox.runs.note(run.number, run_id=found[0], doubtful=run.doubtful)
        store_run_ids(self._outbox.folder.parent, self._outbox.runs.ids())
        return found[0]

    def _marked(self, run: RunRecord) -> list[str]:
        found = self._client.search_runs([self._experiment_id], f"tags.`{MARK}` = '{run.mark}'")
        return [each.info.run_id for each in found]

    def _open(self, run: RunRecord, entry: Entry) -> None:
        run_id = self._run_id(run)
        run = self._outbox.runs[run.number]
        self._client.update_run(run_id, status="RUNNING")
        if run.complete:
            return
        parameters = [Param(key, value) for key, value in run.definition["parameters"].items()]
        for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
            self._client.log_batch(run_id, params=parameters[start : start + _PARAMETERS_AT_ONCE])
        self._client.log_dict(run_id, run.definition["config"], "config.json")
        self._outbox.runs.note(run.number, complete=True)

    def _tags(self, run: RunRecord, entry: Entry) -> None:
        run_id = self._run_id(run)
        for key, value in entry.content.items():
            self._client.set_tag(run_id, key, value.replace(RUN_ID, run_id))

    def _inputs(self, run: RunRecord, entry: Entry) -> None:
        inputs = [
            DatasetInput(
                dataset=Dataset(name=each["name"], digest=each["digest"], source_type="local", source=each["source"]),
                tags=[InputTag(key="mlflow.data.context", value=each["context"])],
            )
            for each in entry.content
        ]
        self._client.log_inputs(self._run_id(run), inputs)

    def _files(self, run: RunRecord, entry: Entry) -> None:
        folder = self._outbox.files_of(entry)
        if not folder.is_dir():
            raise RefusedError(f"its copy {folder} was removed")
        self._client.log_artifacts(self._run_id(run), str(folder), entry.content["to"])

    def _model(self, run: RunRecord, entry: Entry) -> str:
        # PyTorch takes seconds to import, which points and files have no need of.
        from regioncap.experiments.checkpoint import weights_digest
        from regioncap.experiments.serving import log_captioner

        model, run_id = entry.content, self._run_id(run)
        checkpoint = Path(model["checkpoint"])
        if not checkpoint.is_dir() or weights_digest(checkpoint) != model["digest"]:
            raise RefusedError(f"{checkpoint} is no longer what was to be logged as a model")
        self._delete_unfinished_models(run_id)
        address = log_captioner(
            self._client,
            run_id,
            checkpoint,
            name=model["name"],
            picture=Path(model["picture"]),
            cider=model["cider"],
            images=model["images"],
        )
        return f"Model of {run.name}: {address}, a version of {model['name']} in MLflow's registry"

    def _delete_unfinished_models(self, run_id: str) -> None:
        """What a delivery that was cut off has left of them."""
        for model in self._client.search_logged_models([self._experiment_id], f"source_run_id = '{run_id}'"):
            if model.status == LoggedModelStatus.PENDING:
                self._client.delete_logged_model(model.model_id)

    def _end_children(self, run: RunRecord, entry: Entry) -> None:
        """End the children that still run and bear a tag of one of some values, whoever made them."""
        told: Mapping[str, Any] = entry.content
        going_on = self._client.search_runs(
            [self._experiment_id],
            f"tags.`mlflow.parentRunId` = '{self._run_id(run)}' and attributes.status = 'RUNNING'",
        )
        for child in going_on:
            if child.data.tags.get(told["tag"]) in told["values"]:
                for key, value in told["tags"].items():
                    self._client.set_tag(child.info.run_id, key, value)
                self._client.set_terminated(child.info.run_id, told["status"], told["time"])

    def _end(self, run: RunRecord, entry: Entry) -> None:
        self._client.set_terminated(self._run_id(run), entry.content["status"], entry.content["time"])
