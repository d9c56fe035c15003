"""Small studies with real trainings, run as a user runs them."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.commands.preset import read_experiment
from regioncap.experiments.config_io import flatten
from regioncap.experiments.tuning.figures import tuning_figures
from regioncap.experiments.tuning.shared_study import read_study

SMALL = ("--train.steps", 60, "--train.evaluations", 3, "--train.lr", 1e-2)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    out: Path
    outcome: Any
    again: Any
    """The same command with more trials."""


@pytest.fixture(scope="module")
def tuned(tune: Callable[..., Any], runs: Path) -> Tuned:
    """Three trials, then three more, with pruning from the second evaluation of the third trial on."""
    out = runs / "tuned"
    arguments = ("--out", out, *SMALL, "--warmup-trials", 1)
    first = tune(*arguments, "--trials", 3)
    return Tuned(out=out, outcome=first, again=tune(*arguments, "--trials", 6))


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "trials.csv").open()))


def test_a_study_has_its_trials_and_goes_on_by_the_same_command(tuned: Tuned) -> None:
    assert (tuned.outcome.status, tuned.outcome.err) == (0, "")
    assert (tuned.again.status, tuned.again.err) == (0, "")
    assert "0 of 3 trials done, 3 to run" in tuned.outcome.out
    assert "3 of 6 trials done, 3 to run" in tuned.again.out
    trials = read_study(tuned.out).trials
    assert [trial.number for trial in trials] == list(range(6))
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)


def test_the_papers_values_come_first_then_the_presets(tuned: Tuned) -> None:
    paper, preset, *others = read_study(tuned.out).trials
    assert paper.user_attrs["start"] == "the paper's values"
    assert (paper.params["graph.k"], preset.params["graph.k"]) == (5, 3)
    for trial in (paper, preset):
        assert trial.params["objective.alpha1"] == 0.7
        assert trial.params["objective.alpha2"] == 0.3
        assert trial.params["objective.gate_lambda"] == 0.001
        assert trial.user_attrs["own"] == ["graph.sigma"]
    assert not any("start" in trial.user_attrs for trial in others)
    stored = json.loads((tuned.out / "trials" / "0.json").read_text())["experiment"]
    assert stored["graph"]["sigma"] is None  # the config's own, whatever number places it in the space
    assert all(set(trial.params) == set(paper.params) for trial in others)


def test_best_config_trains_to_the_very_same_captions(
    tuned: Tuned, command: Callable[..., Any], cache: Path, runs: Path
) -> None:
    """The file says all that the flags said: `train --config` needs none of them."""
    out = runs / "best-again"
    best = max(read_study(tuned.out).get_trials(states=(TrialState.COMPLETE,)), key=lambda trial: trial.values[0])
    outcome = command("train", "scenes", "--config", tuned.out / "best.json", "--out", out, "--cache", cache)
    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads((tuned.out / "trials" / f"{best.number}.json").read_text())
    trained = json.loads((out / "result.json").read_text())
    assert trained["captions"] == found["captions"][0]
    scores = json.loads((out / "scores.json").read_text())
    assert scores["corpus"]["CIDEr"] == pytest.approx(best.values[0])
    reported = [100 * point["dev.cider"] for point in trained["history"] if "dev.cider" in point]
    assert reported == pytest.approx(list(best.intermediate_values.values()))
    assert load_checkpoint(out / "checkpoint").experiment == read_experiment(tuned.out / "best.json")


def test_a_trial_is_the_training_that_its_flags_name(
    tuned: Tuned, command: Callable[..., Any], flags: list[str], runs: Path
) -> None:
    trial = read_study(tuned.out).get_trials(states=(TrialState.COMPLETE,))[-1]  # pruned ones keep no captions
    given = [
        word
        for name, value in trial.params.items()
        if name not in trial.user_attrs.get("own", ())
        for word in (f"--{name}", value)
    ]
    out = runs / "by-flags"
    outcome = command("train", "scenes", *flags, *SMALL, *given, "--out", out)
    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads((tuned.out / "trials" / f"{trial.number}.json").read_text())
    assert json.loads((out / "result.json").read_text())["captions"] == found["captions"][0]


def test_flags_change_what_a_config_file_says(
    tuned: Tuned, command: Callable[..., Any], cache: Path, runs: Path
) -> None:
    out = runs / "changed"
    file = tuned.out / "best.json"
    outcome = command("train", "scenes", f"--config={file}", "--train.steps", 2, "--out", out, "--cache", cache)
    assert (outcome.status, outcome.err) == (0, "")
    found, stored = load_checkpoint(out / "checkpoint").experiment, read_experiment(file)
    changed = {key for key, value in flatten(found).items() if flatten(stored)[key] != value}
    assert changed == {"train.steps"}


def test_mlflow_has_a_child_for_every_trial_that_ended_as_it_did(tuned: Tuned) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{tuned.out.resolve().parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("regioncap-scenes-tune")
    assert experiment is not None
    (parent,) = [
        run
        for run in client.search_runs([experiment.experiment_id], filter_string="tags.kind = 'tuning'")
        if run.info.run_name.startswith("tuned:")
    ]
    assert parent.info.status == "FINISHED"
    children = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    trials = {str(trial.number): trial for trial in read_study(tuned.out).trials}
    assert {run.data.tags["trial"] for run in children} == set(trials)
    for run in children:
        trial = trials[run.data.tags["trial"]]
        done = trial.state == TrialState.COMPLETE
        assert (run.info.status, run.data.tags["state"]) == (("FINISHED", "finished") if done else ("KILLED", "pruned"))
        assert run.info.run_name.startswith(f"trial {trial.number}: ")
        assert "K " in run.info.run_name
        assert run.data.params["graph.k"] == str(trial.params["graph.k"])
        if done:
            assert run.data.metrics["score/CIDEr"] == pytest.approx(trial.values[0])
        curve = [metric.value for metric in client.get_metric_history(run.info.run_id, "dev/CIDEr")]
        assert curve == pytest.approx(list(trial.intermediate_values.values()))
    drawn = tuning_figures(read_study(tuned.out))
    for figure in drawn.values():
        plt.close(figure)
    assert drawn.keys() >= {
        "history",
        "slices",
        "parallel",
        "curves",
    }  # a contour takes four trials that are not pruned
    assert {item.path for item in client.list_artifacts(parent.info.run_id, "plots")} == {
        f"plots/{name}.png" for name in drawn
    }
    assert {"best.json", "trials.csv"} <= {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert len(parent.inputs.dataset_inputs) == 2


def test_table_of_trials(tuned: Tuned) -> None:
    rows, trials = rows_of(tuned.out), read_study(tuned.out).trials
    assert [row["trial"] for row in rows] == [str(trial.number) for trial in trials]
    assert [row["state"] for row in rows] == [trial.state.name.lower() for trial in trials]
    assert rows[0]["graph.sigma"] == "own"
    assert rows[0]["start"] == "the paper's values"


def test_a_finished_study_runs_nothing(tuned: Tuned, tune: Callable[..., Any]) -> None:
    outcome = tune("--out", tuned.out, *SMALL, "--warmup-trials", 1, "--trials", 6)
    assert outcome.status == 0
    assert "6 of 6 trials done, 0 to run" in outcome.out
    assert len(read_study(tuned.out).trials) == 6


def test_another_setting_does_not_join_a_study(tuned: Tuned, tune: Callable[..., Any]) -> None:
    outcome = tune("--out", tuned.out, *SMALL, "--graph.layers", 2)
    assert outcome.status == 1
    assert outcome.err == (
        "regioncap: the study 'tuned' was begun with graph.layers 1 (here 2): repeat its settings, or take another "
        "--name and --out\n"
    )
    outcome = tune("--out", tuned.out, *SMALL, "--seeds", 2)
    assert "was begun with --seeds 1 (here 2)" in outcome.err
    outcome = tune("--out", tuned.out, *SMALL, "--vary", "graph.k=2:4")
    assert "varies graph.k, graph.sigma, objective.alpha1" in outcome.err


def test_seeds_latency_and_a_front(tune: Callable[..., Any], runs: Path) -> None:
    out = runs / "front"
    arguments = ("--vary", "search.beams=1:3", "search.max-new-tokens=2,8", "--trials", 3, "--seeds", 2)
    outcome = tune("--out", out, *SMALL, "--objective", "cider,latency", *arguments)
    assert (outcome.status, outcome.err) == (0, "")
    study = read_study(out)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    for trial in study.trials:
        of_seeds = trial.user_attrs["cider_of_seeds"]
        assert len(of_seeds) == 2
        assert trial.values[0] == pytest.approx(sum(of_seeds) / 2)
        assert trial.values[1] == trial.user_attrs["ms_per_caption"] > 0
    front = {f"best-{trial.number}.json" for trial in study.best_trials}
    assert {path.name for path in out.glob("best*.json")} == front | {"best.json"}
    assert (out / "plots" / "pareto.png").exists()
    for trial in study.best_trials:
        stored = read_experiment(out / f"best-{trial.number}.json")
        assert stored.search.beams == trial.params["search.beams"]


def test_settings_that_are_too_slow_are_never_the_best(tune: Callable[..., Any], runs: Path) -> None:
    out = runs / "slow"
    outcome = tune("--out", out, *SMALL, "--max-latency", 1e-6, "--trials", 1, "--vary", "search.beams=1:3")
    assert outcome.status == 1
    assert outcome.err == "regioncap: no trial finished within 1e-06 ms a caption: raise --max-latency\n"
    (trial,) = read_study(out).trials
    assert trial.state == TrialState.COMPLETE
    assert trial.constraints["latency"] > 0
    assert not (out / "best.json").exists()
    assert not rows_of(out)[0]["error"]


def test_inputs_are_made_anew_for_trials_that_vary_them(tune: Callable[..., Any], runs: Path, cache: Path) -> None:
    before = set((cache / "prepared").iterdir())
    out = runs / "banks"
    outcome = tune("--out", out, *SMALL, "--vary", "banks.max-scene=3,5", "--trials", 2)
    assert (outcome.status, outcome.err) == (0, "")
    used = {trial.params["banks.max_scene"] for trial in read_study(out).trials}
    assert len(set((cache / "prepared").iterdir()) - before) >= len(used)


def test_a_study_whose_trials_all_fail_ends_early_and_says_why(tune: Callable[..., Any], runs: Path) -> None:
    out = runs / "failing"
    outcome = tune("--out", out, *SMALL, "--trials", 40, "--vary", "train.lr=1e30:1e31", "--train.precision", "fp32")
    assert outcome.status == 1
    assert "no trial finished; the last of 5 that failed here said: TrainingStopped: the loss, or its" in outcome.err
    assert "Lower train.lr" in outcome.err
    trials = read_study(out).trials
    assert len(trials) == 5
    assert all("the loss, or its gradient, is no finite number" in trial.user_attrs["error"] for trial in trials)
    assert "Traceback" in json.loads((out / "trials" / "0.json").read_text())["traceback"]


def test_hours_end_a_command_and_not_its_study(tune: Callable[..., Any], runs: Path) -> None:
    out = runs / "hours"
    outcome = tune("--out", out, *SMALL, "--hours", 1e-9, "--trials", 3)
    assert outcome.status == 1
    assert outcome.err == "regioncap: no trial finished yet: the same command goes on with the study\n"
    assert tune("--out", out, *SMALL, "--trials", 1).status == 0
