"""A study in MLflow: one parent run, one child per arm and seed, written by the study's own process alone.

Nothing here waits for MLflow. What is to be logged goes into an outbox on disk, `FOLDER/outbox`, and a thread delivers
it: a server that is slow, stopped or away holds up no training, and what it has not taken is kept for it. Workers send
their curves to the study, so that a single process writes; where several do, as in a search of many commands, they may.
"""

import getpass
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from regioncap.experiments.config_io import flatten, to_dict
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.tracking.delivery import Delivery
from regioncap.experiments.tracking.metric_names import metric_name
from regioncap.experiments.tracking.notes import NOTE, program
from regioncap.experiments.tracking.outbox import Outbox
from regioncap.experiments.tracking.run_records import store_run_ids, stored_run_ids
from regioncap.experiments.tracking.stepped_images import FOLDER, TAGS, write_stepped_image
from regioncap.experiments.tracking.store import open_store
from regioncap.experiments.tracking.system_metrics import SystemMetrics
from regioncap.experiments.unreachable import UnreachableError

OUTBOX = "outbox"
"""Folder in a study's."""
PATIENCE_S = 60.0
"""Seconds that a command waits at its end for a store that takes nothing."""
_SAMPLE = "system/cpu_utilization_percentage"
"""The curve that counts the samples of a run."""


class StudyTracker:
    """Writes one study. `folder` remembers its runs, so that a resumed study goes on in the same ones.

    A run is called by the name that `run` was given; `run_id` is MLflow's. Metrics are named by `metric_name`: callers
    pass the names that training uses. To be closed by `close`, or used as a context manager.

    Raises UnreachableError if the store does not answer, for that is mostly a wrong address; a study that has begun
    before goes on without.
    """

    def __init__(self, folder: Path, name: str, description: str = "") -> None:
        self.folder = folder
        home = folder.resolve().parent
        begun = Outbox.is_in(folder / OUTBOX) or bool(stored_run_ids(folder))
        if not begun:
            open_store(home).experiment(name, description)  # before anything is left in the folder
        self.outbox = Outbox(folder / OUTBOX)
        self._delivery = Delivery(self.outbox, home, name, description)
        self._system = SystemMetrics(folder, self._sampled)
        self._closed = False
        try:
            self._delivery.connect()
        except UnreachableError as error:
            if not begun:
                raise
            self._delivery.is_away(error)
        self._delivery.start()

    def __enter__(self) -> "StudyTracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def client(self) -> MlflowClient:
        """To look at what has been delivered. Raises UnreachableError while the store is away."""
        return self._delivery.store.client

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment. Raises UnreachableError while the store is away."""
        return self._delivery.experiment_id

    @property
    def uri(self) -> str:
        """The store's address."""
        return self._delivery.uri

    @property
    def away(self) -> bool:
        """Whether the store did not take the last that it was given."""
        return self._delivery.away

    @property
    def dashboard(self) -> str:
        """The command that shows the runs in a browser."""
        return f"mlflow ui --backend-store-uri {self.outbox.about['store']}"

    def run(
        self, name: str, /, experiment: Any, parent: str | None = None, title: str | None = None, **tags: str
    ) -> str:
        """Begin the run of this name or, in a resumed study, take it up again; returns the name.

        `experiment` is the config dataclass that the run shows; a run with a `parent` whose config was another before
        is begun anew. `title` is what the run shows, `tags` become columns of the list.
        """
        tags |= {"mlflow.source.name": program(), "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
        definition = {
            "title": title or name,
            "tags": tags,
            "parent": parent,
            "parameters": {key: str(value) for key, value in flatten(experiment).items()},
            "config": to_dict(experiment),
            "started": _now(),
        }
        self.outbox.begin(name, definition, stored_run_ids(self.folder).get(name))
        self._delivery.wake()
        return name

    def adopt(self, name: str, run_id: str) -> None:
        """Call a run that MLflow has by this name."""
        self.outbox.runs.adopt(name, run_id)
        store_run_ids(self.folder, {name: run_id})

    def run_id(self, run: str, patience_s: float = PATIENCE_S) -> str:
        """MLflow's id of a run; waits until it has one. Raises UnreachableError if that does not come to pass."""
        number = self.outbox.runs.number(run)
        if self.outbox.runs[number].run_id is None:
            self.wait(patience_s)
        run_id = self.outbox.runs[number].run_id
        if run_id is None:
            raise UnreachableError(f"MLflow's store {self.outbox.about['store']} has not made the run {run!r}")
        return run_id

    def data(self, run: str, data: CaptionData, splits: Mapping[str, str], digest: str) -> None:
        """Say which data a run read. `splits`: split -> what for ("training")."""
        source = json.dumps({"uri": data.root.resolve().as_uri()})
        inputs = [
            {"name": f"{data.name} {split}", "digest": digest[:8], "source": source, "context": context}
            for split, context in splits.items()
        ]
        self._put(run, "inputs", inputs)

    def curve(self, run: str, step: int, values: Mapping[str, float]) -> None:
        """Points of the training curves; one that was reported at this step before is left out."""
        self.outbox.put_curve(run, step, _named(values), _now())
        self._delivery.wake()

    def scores(self, run: str, *values: Mapping[str, float]) -> None:
        """Final figures; those that have not changed are left out."""
        for figures in values:
            self.outbox.put_scores(run, _named(figures), _now())
        self._delivery.wake()

    def captions(self, run: str, table: Mapping[str, Sequence[Any]]) -> None:
        """The caption table: image, caption, references, CIDEr; one that is there is replaced."""
        rows = pd.DataFrame({key: list(column) for key, column in table.items()})
        self._put_files(run, lambda folder: rows.to_json(folder / "captions.json", orient="split", index=False))
        # By this the interface knows a file as a table.
        self.tags(run, {"mlflow.loggedArtifacts": json.dumps([{"path": "captions.json", "type": "table"}])})

    def files(self, run: str, folder: Path, to: str) -> None:
        """All files of a folder, under `to`, as they are now."""
        self._put_files(run, lambda copy: shutil.copytree(folder, copy, dirs_exist_ok=True), to)

    def pictures(self, run: str, folder: Path) -> None:
        """Pictures with boxes, edges and words, under `pictures/`."""
        self.files(run, folder, "pictures")

    def image(self, run: str, key: str, step: int, file: Path) -> None:
        """A picture as it looks at one step; the interface shows those of a `key` side by side, and lets one step."""
        self.outbox.put_files(
            run, lambda folder: write_stepped_image(file, key, step, _now(), folder), FOLDER, once=(key, step)
        )
        self.tags(run, TAGS)

    def file(self, run: str, file: Path, folder: str | None = None) -> None:
        """Any file of the study as it is now, such as its table, at the top or in a `folder` of the run."""
        self._put_files(run, lambda copy: shutil.copy(file, copy), folder)

    def model(self, run: str, checkpoint: Path, name: str, *, picture: Path, cider: float, images: int) -> None:
        """The run's checkpoint as a model to be served, a version of `name` in the registry; its address is printed.

        The checkpoint is not copied: if it is another when its turn comes, it is not logged. See
        `serving.log_captioner`.
        """
        from regioncap.experiments.checkpoint import weights_digest  # PyTorch: see MlflowWriter

        model = {
            "checkpoint": str(checkpoint.resolve()),
            "digest": weights_digest(checkpoint),
            "name": name,
            "picture": str(picture.resolve()),
            "cider": cider,
            "images": images,
        }
        self._put(run, "model", model)

    def tags(self, run: str, tags: Mapping[str, str]) -> None:
        """Set tags; `notes.RUN_ID` in one becomes the run's id."""
        self._put(run, "tags", dict(tags))

    def describe(self, run: str, text: str) -> None:
        """What the interface shows as the run's description: Markdown, as `notes.note` makes it."""
        self.tags(run, {NOTE: text})

    def watch(self, run: str, pid: int) -> None:
        """Sample memory, processors, disk and GPU for the run that a process computes, until the run ends."""
        self._system.watch(run, pid)

    def end(self, run: str, status: str = "FINISHED") -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        self._system.leave(run)
        self._put(run, "end", {"status": status, "time": _now()})

    def end_children(self, run: str, tag: str, values: Sequence[str], status: str, tags: Mapping[str, str]) -> None:
        """Close the children, whoever began them, that still run and of which `tag` is one of the `values`."""
        told = {"tag": tag, "values": list(values), "status": status, "tags": dict(tags), "time": _now()}
        self._put(run, "children", told)

    def wait(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait until everything is delivered; returns whether it is. See `Delivery.wait`."""
        return self._delivery.wait(patience_s)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Deliver what is left, with patience, and say what stays behind; done once."""
        if self._closed:
            return
        self._closed = True
        self._system.close()
        try:
            delivered = self._delivery.finish(patience_s)
        finally:
            self._delivery.close()
        refused = self.outbox.refused()
        if not delivered or refused:
            count = self.outbox.waiting() + len(refused)
            print(
                f"{count} entries for MLflow are kept in {self.outbox.folder}: `regioncap dashboard deliver "
                f"{self.folder}` delivers them, and so does --resume",
                flush=True,
            )

    def _sampled(self, run: str, values: Mapping[str, float]) -> None:
        self.outbox.put_curve(run, self.outbox.next_step(run, _SAMPLE), values, _now())
        self._delivery.wake()

    def _put(self, run: str, kind: str, content: Any) -> None:
        self.outbox.put(run, kind, content)
        self._delivery.wake()

    def _put_files(self, run: str, fill: Any, to: str | None = None) -> None:
        self.outbox.put_files(run, fill, to)
        self._delivery.wake()


def _named(values: Mapping[str, float]) -> dict[str, float]:
    return {metric_name(key): float(value) for key, value in values.items()}


def _now() -> int:
    return int(time.time() * 1000)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"
