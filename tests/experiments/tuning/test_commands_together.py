"""Whole commands with a real PostgreSQL, as on four machines, two of which are switched off."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.tuning.budget import is_lost, places, requeue
from regioncap.experiments.tuning.storage import open_storage

TOTAL = 10
SMALL = ("--train.steps", "60", "--train.evaluations", "3", "--train.lr", "1e-2", "--workers", "1")


@pytest.fixture
def start(
    flags: list[str], prepared: Prepared, data: CaptionData, tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """`regioncap tune scenes` as a command of its own, in a group of its own; the data are encoded before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_DISABLE_TELEMETRY": "true"}

    def begin(out: Path, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "regioncap.experiments.cli", "tune", "scenes", *flags, *SMALL]
        with (tmp_path / f"{out.name}.log").open("w") as log:
            return subprocess.Popen(
                [str(word) for word in (*command, "--out", out, *words)],
                stdout=log, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
            )  # fmt: skip

    return begin


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def trains(study: optuna.Study, pid: int, log: str) -> bool:
    """Whether a command is at a trial."""
    return any(
        f"-{pid}-" in trial.user_attrs.get("owner", "") and f"trial {trial.number}: starts" in log
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "journal"])
def test_two_of_four_commands_are_killed_and_no_trial_is_lost(
    kind: str, request: pytest.FixtureRequest, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    url = request.getfixturevalue("database") if kind == "postgresql" else str(tmp_path / "shared.journal")
    words = ("--trials", TOTAL, "--storage", url, "--name", "shared", "--heartbeat-s", 2)
    commands = [start(tmp_path / "runs" / f"machine{i}", *words) for i in range(4)]
    storage = open_storage(url, tmp_path, requeue)
    try:
        wait_for(lambda: "shared" in [study.study_name for study in optuna.get_all_study_summaries(storage)])
        study = optuna.load_study(study_name="shared", storage=storage)
        for i, victim in enumerate(commands[:2]):
            wait_for(lambda victim=victim, i=i: trains(study, victim.pid, (tmp_path / f"machine{i}.log").read_text()))
            os.killpg(victim.pid, signal.SIGKILL)  # with its worker, as a machine goes
        codes = [command.wait(400) for command in commands]
    finally:
        for command in commands:
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGKILL)
                command.wait()
    logs = [(tmp_path / f"machine{i}.log").read_text() for i in range(4)]
    assert codes == [-9, -9, 0, 0], logs
    trials = study.get_trials(deepcopy=False)
    standing = places(trials)
    over = [trial for trial in list(standing.values())[:TOTAL] if trial.state.is_finished() and not is_lost(trial)]
    assert len(over) == TOTAL
    lost = [trial for trial in trials if is_lost(trial)]
    assert len(lost) == 2
    for trial in lost:
        successor = standing[trial.user_attrs.get("place", trial.number)]
        assert successor.params == trial.params
        in_its_place = [
            each for each in lost if each.user_attrs.get("place", each.number) == successor.user_attrs["place"]
        ]
        assert successor.user_attrs["attempt"] == 1 + len(in_its_place)  # both commands may have met the same one
    client = MlflowClient(tracking_uri=f"sqlite:///{(tmp_path / 'runs').resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("regioncap-scenes-tune")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("kind") == "tuning"]
    children = {run.data.tags["trial"]: run for run in runs if "trial" in run.data.tags}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    for trial in lost:
        assert children[str(trial.number)].info.status == "KILLED"
        assert children[str(trial.number)].data.tags["state"] == "lost"
    assert {run.info.status for run in children.values()} <= {"FINISHED", "KILLED"}
    assert len(children) == len([trial for trial in trials if trial.datetime_start])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_so_in_one_line_and_goes_on(
    number: signal.Signals, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "one"
    command = start(out, "--trials", 2)
    log = tmp_path / "one.log"
    wait_for(lambda: "trial 0: starts" in log.read_text())
    os.killpg(command.pid, number) if number == signal.SIGINT else os.kill(command.pid, number)
    assert command.wait(60) == 130
    assert log.read_text().rstrip().splitlines()[-1] == (
        f"regioncap: interrupted; what is finished is kept in {out}, the same command goes on"
    )
    assert "Traceback" not in log.read_text()
    assert start(out, "--trials", 2).wait(200) == 0
    study = optuna.load_study(study_name="one", storage=open_storage(None, out, requeue))
    over = [trial for trial in study.trials if trial.state.is_finished() and not is_lost(trial)]
    assert len(over) == 2
    assert {trial.params["graph.k"] for trial in over} == {5, 3}  # the paper's, which the interruption met, among them
