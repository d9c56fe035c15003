"""A study in MLflow: one parent run, one child per arm and seed, written by the study's own process alone.

Workers send their curves to the study, so that a single process writes to the store: a SQLite store that several
processes write to at once makes them wait for each other. Where several do, as in a search with many workers, they may.
"""

import fcntl
import getpass
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from PIL import Image

from regioncap.experiments.config_io import flatten, to_dict
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.environment import environment
from regioncap.experiments.serving import log_captioner
from regioncap.experiments.tracking.metric_names import metric_name
from regioncap.experiments.tracking.notes import NOTE, program
from regioncap.experiments.tracking.store import open_store
from regioncap.experiments.unreachable import UnreachableError

_RUNS = "mlflow_runs.json"
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE = 1000, 100
"""What MLflow takes in one call."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _reached(
    method: Callable[Concatenate["StudyTracker", Arguments], Result],
) -> Callable[Concatenate["StudyTracker", Arguments], Result]:
    """A store that goes away in the middle of a study is as clear a line as one that was never there."""

    @wraps(method)
    def reached(self: "StudyTracker", /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        try:
            return method(self, *arguments, **named)
        except MlflowException as error:
            raise UnreachableError(
                f"MLflow's store {self.shown} no longer takes what it is given ({str(error)[:300]}); what is finished "
                "is kept: call again, a study with --resume"
            ) from error

    return reached


class StudyTracker:
    """Writes one study. `folder` remembers its run ids, so that a resumed study goes on in the same runs.

    Metrics are named by `metric_name`: callers pass the names that training uses. Raises UnreachableError if the store
    cannot be opened.
    """

    def __init__(self, folder: Path, name: str, description: str = "") -> None:
        self.folder = folder
        store = open_store(folder.resolve().parent)
        self.uri, self.shown, self.client = store.uri, store.shown, store.client
        self.experiment_id = store.experiment(name, description)
        self.runs = self._stored()
        """Run ids by name; one that is put here is taken up by `run`."""

    @property
    def dashboard(self) -> str:
        """The command that shows the runs in a browser."""
        return f"mlflow ui --backend-store-uri {self.shown}"

    @_reached
    def run(
        self, name: str, /, experiment: Any, parent: str | None = None, title: str | None = None, **tags: str
    ) -> str:
        """The id of the run of this name, made now or, in a resumed study, taken up again; `title` is what it shows.

        `experiment` is the config dataclass that the run shows. `tags` become columns of the list.
        """
        with self._remembering() as runs:
            if name in runs and self._taken_up(runs[name]):
                return runs[name]
            tags |= {"mlflow.source.name": program(), "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
            if parent is not None:
                tags["mlflow.parentRunId"] = parent
            run = self.client.create_run(self.experiment_id, tags=tags, run_name=title or name)
            run_id: str = run.info.run_id
            parameters = [Param(key, str(value)) for key, value in flatten(experiment).items()]
            for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
                self.client.log_batch(run_id, params=parameters[start : start + _PARAMETERS_AT_ONCE])
            self.client.log_dict(run_id, to_dict(experiment), "config.json")
            runs[name] = run_id
        return run_id

    @_reached
    def data(self, run_id: str, data: CaptionData, splits: Mapping[str, str], digest: str) -> None:
        """Say which data a run read. `splits`: split -> what for ("training")."""
        where = {"uri": data.root.resolve().as_uri()}
        inputs = []
        for split, context in splits.items():
            dataset = Dataset(
                name=f"{data.name} {split}", digest=digest[:8], source_type="local", source=json.dumps(where)
            )
            tag = InputTag(key="mlflow.data.context", value=context)
            inputs.append(DatasetInput(dataset=dataset, tags=[tag]))
        self.client.log_inputs(run_id, inputs)

    @_reached
    def curve(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Points of the training curves."""
        now = int(time.time() * 1000)
        points = [Metric(metric_name(key), value, now, step) for key, value in values.items()]
        for start in range(0, len(points), _METRICS_AT_ONCE):
            self.client.log_batch(run_id, metrics=points[start : start + _METRICS_AT_ONCE])

    @_reached
    def scores(self, run_id: str, *values: Mapping[str, float]) -> None:
        """Final figures."""
        for figures in values:
            self.curve(run_id, 0, figures)

    @_reached
    def captions(self, run_id: str, table: Mapping[str, Sequence[Any]]) -> None:
        """The caption table: image, caption, references, CIDEr."""
        # It reads what it would add to, with a progress bar of its own amid the study's.
        with environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
            self.client.log_table(run_id, {key: list(column) for key, column in table.items()}, "captions.json")

    @_reached
    def pictures(self, run_id: str, folder: Path) -> None:
        """Pictures with boxes, edges and words, under `pictures/`."""
        self.client.log_artifacts(run_id, str(folder), "pictures")

    @_reached
    def image(self, run_id: str, key: str, step: int, file: Path) -> None:
        """A picture as it looks at one step; the interface shows those of a `key` side by side, and lets one step."""
        with Image.open(file) as picture:
            # 256 colours make a photograph's PNG a third as large; that is enough for looking at.
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).convert("P")
            self.client.log_image(run_id, small, key=key, step=step, synchronous=True)

    @_reached
    def file(self, run_id: str, file: Path, folder: str | None = None) -> None:
        """Any file of the study, such as its table, at the top or in a `folder` of the run."""
        self.client.log_artifact(run_id, str(file), folder)

    @_reached
    def model(self, run_id: str, checkpoint: Path, name: str, *, picture: Path, cider: float, images: int) -> str:
        """The run's checkpoint as a model to be served, a version of `name` in the registry; returns its address.

        See `serving.log_captioner`.
        """
        return log_captioner(self.client, run_id, checkpoint, name=name, picture=picture, cider=cider, images=images)

    @_reached
    def describe(self, run_id: str, text: str) -> None:
        """What the interface shows as the run's description: Markdown, as `notes.note` makes it."""
        self.client.set_tag(run_id, NOTE, text)

    @_reached
    def end(self, run_id: str, status: str = "FINISHED") -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    def _taken_up(self, run_id: str) -> bool:
        """Whether a remembered run goes on; one of another store than this has to be made anew."""
        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def _stored(self) -> dict[str, str]:
        """What this folder remembers, other processes' runs among it."""
        try:
            stored: dict[str, str] = json.loads((self.folder / _RUNS).read_text())
        except FileNotFoundError:
            return {}
        return stored

    @contextmanager
    def _remembering(self) -> Iterator[dict[str, str]]:
        """The names and ids of runs, written back at the end; one process of a search at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / _RUNS
        with file.with_name(f".{_RUNS}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.runs = self._stored() | self.runs
            yield self.runs
            partial = file.with_name(_RUNS + ".partial")
            partial.write_text(json.dumps(self.runs, indent=1))
            partial.rename(file)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"
