"""A study in MLflow: one parent run, a child for every trial, each with the end that its trial has."""

from collections.abc import Mapping
from pathlib import Path

import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import Trial

from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.tracking import StudyTracker
from regioncap.experiments.tuning.budget import is_lost
from regioncap.experiments.tuning.locks import held
from regioncap.experiments.tuning.storage import StorageError

_PARENT = "mlflow_parent"
"""Attribute of a study: the store and id of its parent run."""
_SETTLE_S = 2.0
"""Seconds that the beginning of a trial waits for MLflow."""


class TrialRuns:
    """Writes the runs of the trials that this command runs; the parent is the study's, whoever made it.

    Raises StorageError in one line if the tracking store cannot be reached.
    """

    def __init__(self, out: Path, preset: str) -> None:
        # Two commands that make a fresh SQLite store at once break it.
        home = out.resolve().parent
        try:
            with held(home / ".mlflow.lock"):
                self._tracker = StudyTracker(out, f"regioncap-{preset}-tune")
        except (ValueError, MlflowException) as error:
            raise StorageError(" ".join(str(error).split())) from error
        self._parent = ""
        self._open: dict[int, str] = {}

    @property
    def dashboard(self) -> str:
        """The command that shows the runs."""
        return self._tracker.dashboard

    def begin_study(self, study: optuna.Study, base: Experiment, title: str) -> None:
        """Open the parent run, or take up the one that another command opened in the same store."""
        known = study.user_attrs.get(_PARENT)
        if known is not None and known["store"] == self._tracker.uri:
            self._tracker.adopt("study", known["run"])
        self._parent = self._tracker.run("study", base, title=title, kind="tuning")
        if known is None:
            run_id = self._tracker.run_id(self._parent)  # other commands need it, so this waits for MLflow
            study.set_user_attr(_PARENT, {"store": self._tracker.uri, "run": run_id})

    def data(self, data: CaptionData, splits: Mapping[str, str], digest: str) -> None:
        """Say which data the study reads."""
        self._tracker.data(self._parent, data, splits, digest)

    def begin(self, trial: Trial, experiment: Experiment, title: str) -> None:
        """Open a trial's run."""
        run = self._tracker.run(f"trial {trial.number}", experiment, self._parent, title=title, trial=str(trial.number))
        self._open[trial.number] = run
        if not self._tracker.away:
            self._tracker.wait(_SETTLE_S)  # should this command be killed, others close the run that MLflow has

    def curve(self, number: int, step: int, values: Mapping[str, float]) -> None:
        """Points of a trial's curves."""
        self._tracker.curve(self._open[number], step, values)

    def end(self, number: int, state: str, figures: Mapping[str, float] | None = None, note: str = "") -> None:
        """Close a trial's run: `finished`, `pruned`, `failed` or `lost`, which a tag says; MLflow knows fewer ends."""
        run = self._open.pop(number)
        if figures:
            self._tracker.scores(run, figures)
        self._close(run, state, note)

    def close(self, note: str) -> None:
        """Close the runs of trials that were given back."""
        for number in list(self._open):
            self.end(number, "lost", note=note)

    def end_study(self, status: str, folder: Path, best: Mapping[str, float]) -> None:
        """Log the study's files and best figures, and close the parent; RUNNING leaves it open for other commands."""
        if best:
            self._tracker.scores(self._parent, best)
        for file in sorted(folder.glob("best*.json")) + sorted(folder.glob("trials.csv")):
            self._tracker.file(self._parent, file)
        if (folder / "plots").is_dir():
            self._tracker.files(self._parent, folder / "plots", "plots")
        if status != "RUNNING":
            self._tracker.end(self._parent, status)
        self._tracker.close()

    def end_lost(self, study: optuna.Study) -> None:
        """Close the runs of trials whose commands were killed: these could not do it themselves."""
        lost = {str(trial.number) for trial in study.get_trials(deepcopy=False) if is_lost(trial)}
        tags = {"state": "lost", "note": "its command or its worker was killed"}
        self._tracker.end_children(self._parent, "trial", sorted(lost), "KILLED", tags)

    def _close(self, run: str, state: str, note: str) -> None:
        self._tracker.tags(run, {"state": state} | ({"note": note} if note else {}))
        self._tracker.end(run, {"finished": "FINISHED", "failed": "FAILED"}.get(state, "KILLED"))
