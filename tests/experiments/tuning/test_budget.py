"""Commands that share a study: whatever becomes of some of them, all its trials are run, and none twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from regioncap.experiments.tuning import budget
from regioncap.experiments.tuning.budget import ERROR, PLACE, Budget, is_lost, places, requeue
from regioncap.experiments.tuning.owners import OWNER, LockOwners
from regioncap.experiments.tuning.storage import open_storage

COMMAND = """
import sys, time
from pathlib import Path
import optuna
from optuna.trial import TrialState
from regioncap.experiments.tuning.budget import Budget, requeue
from regioncap.experiments.tuning.owners import owners_of
from regioncap.experiments.tuning.storage import journal_of, open_storage

url, out, total, log = sys.argv[1] or None, Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = open_storage(url, out, requeue, heartbeat_s=1)
study = optuna.create_study(storage=storage, study_name="shared", load_if_exists=True)
owners = owners_of(storage, journal_of(url, out), requeue)
budget = Budget(study, storage, owners, total=total, seed=0)
log.write_text("")
while True:
    trial = budget.take()
    if trial is None:
        progress = budget.progress()
        if not progress.running and not progress.waiting:
            break
        time.sleep(0.1)
        continue
    x = trial.suggest_float("x", 0.0, 1.0)
    with log.open("a") as file:
        print("takes", trial.number, x, file=file, flush=True)
    for _ in range(10):
        time.sleep(0.02)
    if trial.number % 7 == 3:
        budget.fail(trial, "an error of its own")
    else:
        budget.done(trial, [x], TrialState.COMPLETE)
    with log.open("a") as file:
        print("ends", trial.number, file=file, flush=True)
owners.close()
"""


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_four_commands_of_which_two_are_killed_run_every_trial_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    total = 24
    url = request.getfixturevalue("database") if kind == "postgresql" else ""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    logs = [tmp_path / f"{i}.log" for i in range(4)]
    words = [sys.executable, "-c", COMMAND, url, str(tmp_path), str(total)]
    commands = [subprocess.Popen([*words, str(log)], env=environment) for log in logs]
    try:
        for command, log in zip(commands[:2], logs[:2], strict=True):
            wait_for(lambda log=log: log.exists() and log.read_text().count("ends") >= 2)
            wait_for(lambda log=log: log.read_text().rstrip().splitlines()[-1].startswith("takes"))
            command.send_signal(signal.SIGKILL)
        assert [command.wait(240) for command in commands] == [-9, -9, 0, 0]
    finally:
        for command in commands:
            command.kill()
            command.wait()
    storage = open_storage(url or None, tmp_path, requeue)
    trials = optuna.load_study(study_name="shared", storage=storage).trials
    standing = places(trials)
    over = [trial for trial in list(standing.values())[:total] if trial.state.is_finished() and not is_lost(trial)]
    assert len(over) == total
    lost = [trial for trial in trials if is_lost(trial)]
    running = {log: [line.split() for line in log.read_text().splitlines()] for log in logs}
    died_over = [words[1] for log in logs[:2] for words in running[log][-1:] if words[0] == "takes"]
    assert lost
    assert {str(trial.number) for trial in lost} <= set(died_over)
    losses = Counter(int(trial.user_attrs.get(PLACE, trial.number)) for trial in lost)
    for trial in lost:  # the very same parameters were run again, in its place
        place = int(trial.user_attrs.get(PLACE, trial.number))
        assert standing[place].params == trial.params
        assert standing[place].user_attrs["attempt"] == 1 + losses[place]  # the second kill may lose what the first did
    taken = Counter(words[1] for lines in running.values() for words in lines if words[0] == "takes")
    assert set(taken.values()) == {1}  # no trial by two commands
    failed = [trial for trial in over if trial.state == TrialState.FAIL]
    assert all(trial.user_attrs[ERROR] == "an error of its own" for trial in failed)
    draws = [trial.params["x"] for trial in over]
    assert len(set(draws)) == len(draws)  # no command repeats what another has drawn


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def new_study(tmp_path: Path, total: int) -> tuple[optuna.Study, Budget, LockOwners]:
    storage = open_storage(None, tmp_path, requeue)
    study = optuna.create_study(storage=storage, study_name="one", load_if_exists=True)
    owners = LockOwners(storage, tmp_path / "study.journal", requeue)
    return study, Budget(study, storage, owners, total=total, seed=0), owners


def test_no_more_than_the_total_is_taken(tmp_path: Path) -> None:
    _, taking, _ = new_study(tmp_path, 3)
    trials = [taking.take() for _ in range(4)]
    assert trials[3] is None
    assert [trial.number for trial in trials[:3] if trial] == [0, 1, 2]
    assert (taking.progress().finished, taking.progress().running, taking.progress().waiting) == (0, 3, 0)


def test_a_larger_total_goes_on(tmp_path: Path) -> None:
    study, taking, owners = new_study(tmp_path, 1)
    first = taking.take()
    assert first is not None
    first.suggest_float("x", 0.0, 1.0)
    taking.done(first, [1.0], TrialState.COMPLETE)
    assert taking.take() is None
    more = Budget(study, study._storage, owners, total=2, seed=0).take()
    assert more is not None
    assert more.number == 1


def test_what_is_given_back_is_taken_again_with_its_parameters(tmp_path: Path) -> None:
    study, taking, _ = new_study(tmp_path, 2)
    first = taking.take()
    assert first is not None
    x = first.suggest_float("x", 0.0, 1.0)
    taking.give_back(first.number)
    again = taking.take()
    assert again is not None
    assert again.number != first.number
    assert again.suggest_float("x", 0.0, 1.0) == x
    assert taking.progress().waiting == 1
    assert is_lost(study.trials[0])


def test_a_trial_that_kills_its_workers_counts_as_failed(tmp_path: Path) -> None:
    study, taking, _ = new_study(tmp_path, 1)
    for _ in range(budget._TRIES):
        trial = taking.take()
        assert trial is not None
        trial.suggest_float("x", 0.0, 1.0)
        taking.give_back(trial.number)
    assert taking.take() is None
    assert taking.progress().finished == 1
    assert len(study.trials) == budget._TRIES


def test_a_loss_that_nobody_enqueued_is_enqueued_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that saw it was killed between the two steps."""
    study, taking, _ = new_study(tmp_path, 1)
    trial = taking.take()
    assert trial is not None
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    assert taking.take() is None
    assert taking.progress().waiting == 1
    monkeypatch.setattr(budget, "_PATIENCE", timedelta(0))
    assert taking.take() is None  # enqueued now
    again = taking.take()
    assert again is not None
    assert study.trials[again.number].user_attrs[PLACE] == trial.number


def test_a_trial_that_was_taken_over_is_not_ended_twice(tmp_path: Path) -> None:
    study, taking, _ = new_study(tmp_path, 1)
    trial = taking.take()
    assert trial is not None
    trial.suggest_float("x", 0.0, 1.0)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # another command took it for dead
    assert not taking.done(trial, [1.0], TrialState.COMPLETE)
    assert study.trials[0].values is None


def test_a_dead_owners_lock_is_free_and_a_living_ones_is_not(tmp_path: Path) -> None:
    study, taking, owners = new_study(tmp_path, 2)
    mine = taking.take()
    assert mine is not None
    other = LockOwners(study._storage, tmp_path / "study.journal", requeue)
    other.reap(study)
    assert study.trials[0].state == TrialState.RUNNING
    owners._lock.close()  # type: ignore[union-attr]  # as the kernel does when a process dies
    other.reap(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].user_attrs[OWNER] == owners.name


def test_draws_depend_on_the_trials_number_alone(tmp_path: Path) -> None:
    draws = []
    for name in "ab":
        _, taking, _ = new_study(tmp_path / name, 2)
        trials = [taking.take(), taking.take()]
        draws.append([trial.suggest_float("x", 0.0, 1.0) for trial in trials if trial])
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[0][1]


STATES = st.sampled_from([TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING, TrialState.FAIL])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of the machine, not of the strategy
@given(st.lists(st.tuples(STATES, st.booleans()), max_size=12))
def test_a_place_keeps_its_trial_whatever_is_lost_later(states: list[tuple[TrialState, bool]]) -> None:
    """What a command may take stays its to take: losses elsewhere move nobody."""
    study = optuna.create_study(storage=InMemoryStorage())
    for state, _ in states:
        study.add_trial(trial_of(state))
    before = places(study.trials)
    assert len(before) == len(states)
    for trial, (_, seen) in zip(study.trials, states, strict=True):
        if is_lost(trial) and seen:
            requeue(study, trial)
    after = places(study.trials)
    assert list(after) == list(before)
    for place, trial in before.items():
        assert after[place].number == trial.number or is_lost(trial)
    assert sorted(after) == list(after)


def trial_of(state: TrialState) -> FrozenTrial:
    over = state in (TrialState.COMPLETE, TrialState.FAIL)
    return create_trial(
        state=state,
        values=[1.0] if state == TrialState.COMPLETE else None,
        params={} if state == TrialState.WAITING else {"x": 0.5},
        distributions={} if state == TrialState.WAITING else {"x": FloatDistribution(0.0, 1.0)},
        user_attrs={},
        system_attrs={"since": str(datetime.now())} if over else {},
    )


def test_one_worker_gives_the_same_study_twice(tmp_path: Path) -> None:
    """Beyond the sampler's random beginnings, too."""
    found = []
    for name in "ab":
        study, taking, _ = new_study(tmp_path / name, 16)
        while (trial := taking.take()) is not None:
            x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_int("y", 1, 9)
            taking.done(trial, [(x - 0.3) ** 2 + y], TrialState.COMPLETE)
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]
    assert len({str(parameters) for parameters in found[0]}) == 16


def test_what_a_trial_is_drawn_from_knows_of_those_that_run(tmp_path: Path) -> None:
    """The sampler is told of every trial that was taken before, and keeps away from those that run."""
    _, taking, _ = new_study(tmp_path, 30)
    for _ in range(12):
        trial = taking.take()
        assert trial is not None
        taking.done(trial, [trial.suggest_float("x", 0.0, 1.0)], TrialState.COMPLETE)
    seen: list[int] = []
    for _ in range(3):
        trial = taking.take()
        assert trial is not None
        trial.suggest_float("x", 0.0, 1.0)
        cached = trial.study._thread_local.cached_all_trials
        seen.append(sum(each.state == TrialState.RUNNING for each in cached))
    assert seen == [1, 2, 3]
