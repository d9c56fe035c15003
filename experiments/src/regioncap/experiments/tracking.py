"""A study in MLflow: one parent run, one child per arm and seed, written by the study's own process alone.

Workers send their curves to the study, so that a single process writes to the store: a SQLite store that several
processes open at once is a source of crashes.
"""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException

from regioncap.experiments.config_io import flatten, to_dict
from regioncap.experiments.data.dataset import CaptionData

_RUNS = "mlflow_runs.json"


class StudyTracker:
    """Writes one study. `folder` remembers its run ids, so that a resumed study goes on in the same runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        # Beside the studies, so that `make dashboard` shows all of them; MLFLOW_TRACKING_URI overrides.
        home = folder.resolve().parent
        home.mkdir(parents=True, exist_ok=True)
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table it makes
        try:
            self.client = MlflowClient(tracking_uri=self.uri)
            found = self.client.get_experiment_by_name(name)
        except MlflowException as error:
            raise ValueError(
                f"MLflow's store {self.uri} cannot be opened ({error}); mend or unset MLFLOW_TRACKING_URI, or choose "
                "another --out"
            ) from error
        artifacts = (home / "mlartifacts" / name).as_uri() if self.uri.startswith("sqlite:") else None
        self.experiment_id = found.experiment_id if found else self.client.create_experiment(name, artifacts)
        self.runs: dict[str, str] = {}
        if (folder / _RUNS).exists():
            self.runs = json.loads((folder / _RUNS).read_text())

    @property
    def dashboard(self) -> str:
        """The command that shows the runs in a browser."""
        return f"mlflow ui --backend-store-uri {self.uri}"

    def run(self, name: str, experiment: Any, parent: str | None = None, title: str | None = None, **tags: str) -> str:
        """The id of the run of this name, made now or, in a resumed study, taken up again; `title` is what it shows.

        `experiment` is the config dataclass that the run shows.
        """
        if name in self.runs:
            self.client.update_run(self.runs[name], status="RUNNING")
            return self.runs[name]
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=title or name)
        run_id: str = run.info.run_id
        parameters = [Param(key, str(value)) for key, value in flatten(experiment).items()]
        self.client.log_batch(run_id, params=parameters)
        self.client.log_dict(run_id, to_dict(experiment), "config.json")
        self.runs[name] = run_id
        partial = self.folder / (_RUNS + ".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(self.runs, indent=1))
        partial.rename(self.folder / _RUNS)
        return run_id

    def data(self, run_id: str, data: CaptionData, splits: Mapping[str, str], digest: str) -> None:
        """Say which data a run read. `splits`: split -> what for ("training")."""
        where = {"uri": data.root.resolve().as_uri()}
        inputs = []
        for split, context in splits.items():
            dataset = Dataset(
                name=f"{data.name} {split}", digest=digest[:36], source_type="local", source=json.dumps(where)
            )
            tag = InputTag(key="mlflow.data.context", value=context)
            inputs.append(DatasetInput(dataset=dataset, tags=[tag]))
        self.client.log_inputs(run_id, inputs)

    def curve(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Points of the training curves."""
        now = int(time.time() * 1000)
        self.client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def scores(self, run_id: str, *values: Mapping[str, float]) -> None:
        """Final figures."""
        for figures in values:
            self.curve(run_id, 0, figures)

    def captions(self, run_id: str, table: Mapping[str, Sequence[Any]]) -> None:
        """The caption table: image, caption, references, CIDEr."""
        self.client.log_table(run_id, {key: list(column) for key, column in table.items()}, "captions.json")

    def pictures(self, run_id: str, folder: Path) -> None:
        """Pictures with boxes, edges and words, under `pictures/`."""
        self.client.log_artifacts(run_id, str(folder), "pictures")

    def file(self, run_id: str, file: Path) -> None:
        """Any file of the study, such as its table."""
        self.client.log_artifact(run_id, str(file))

    def end(self, run_id: str, status: str = "FINISHED") -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)
