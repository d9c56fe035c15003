"""One command's part of a study: it takes trials, hands them to workers, and writes what they say.

This process alone talks to Optuna and MLflow.
"""

import contextlib
import os
import time
from dataclasses import replace

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from regioncap.experiments.config_io import to_dict
from regioncap.experiments.prepare import dev_split
from regioncap.experiments.progress import StudyProgress, shown_values
from regioncap.experiments.tuning.budget import OWN, Budget
from regioncap.experiments.tuning.figures import save_figures, tuning_figures
from regioncap.experiments.tuning.options import TuneOptions
from regioncap.experiments.tuning.results import (
    BEST,
    CPU_S,
    MS,
    SEEDS_CIDER,
    best_trials,
    print_trials,
    said_of,
    write_results,
    write_trial,
)
from regioncap.experiments.tuning.run_trial import Made
from regioncap.experiments.tuning.shared_study import SharedStudy
from regioncap.experiments.tuning.space import short
from regioncap.experiments.tuning.trial_job import Died, End, InputsMaker, Point, TrialJob, TrialResult
from regioncap.experiments.tuning.trial_runs import TrialRuns
from regioncap.experiments.tuning.trial_workers import Message, TrialWorkers

_POLL_S = 0.5
_HOPELESS = 5
"""Trials that failed, with none that finished: the settings are wrong, not the trials."""


class TuneError(RuntimeError):
    """The study came to nothing; the message says why. What there is of it is kept."""


class TrialLoop:
    """State of one command, from its first trial to its last."""

    def __init__(
        self,
        shared: SharedStudy,
        options: TuneOptions,
        made: Made,
        maker: InputsMaker,
        budget: Budget,
        runs: TrialRuns,
    ) -> None:
        self.study, self.base, self.space = shared.study, shared.base, shared.space
        self.options, self.made, self.maker = options, made, maker
        self.budget, self.runs = budget, runs
        self.single = len(options.directions) == 1
        self.trials: dict[int, Trial] = {}
        self.failures: list[str] = []
        self.until = time.monotonic() + 3600 * options.hours if options.hours else None

    def run(self) -> list[FrozenTrial]:
        """Work until the study has its trials or this command its hours; returns the best. Raises TuneError if none."""
        options, data = self.options, self.made.data
        self.runs.begin_study(self.study, self.base, f"{options.study_name}: tune {self.base.preset}")
        contexts = {"train": "training", dev_split(data): "validation"}
        self.runs.data(data, contexts, self.made.inputs.prepared.name)
        left = self.budget.progress().waiting
        self._say_beginning(left)
        status = "FAILED"
        try:
            if left or self.budget.progress().running:
                with (
                    StudyProgress(max(1, left)) as self.progress,
                    TrialWorkers(options.workers or os.cpu_count() or 1, options.metrics) as self.workers,
                ):
                    self._run_trials()
            best = self._report()
            status = "FINISHED" if self._is_over() else self._unfinished()
            return best
        except KeyboardInterrupt:
            status = self._unfinished()
            raise
        finally:
            self.budget.give_back_all()
            self.runs.close("its command ended")
            self.runs.end_lost(self.study)
            best = write_results(self.study, self.base, self.space, options.out)
            self.runs.end_study(status, options.out, {"CIDEr": best[0].values[0]} if best else {})

    def _run_trials(self) -> None:
        while True:
            while self.workers.free and not self._is_late() and (trial := self.budget.take()) is not None:
                self._begin(trial)
            if not self.trials:
                if self._is_over() or self._is_late():
                    return
                time.sleep(_POLL_S)  # for others' trials: should their command die, they are this one's to run
                continue
            for job, message in self.workers.messages(_POLL_S):
                self._hear(job, message)
            if len(self.failures) >= _HOPELESS and not best_trials(self.study):
                raise TuneError(self._why_none())

    def _begin(self, trial: Trial) -> None:
        name = _name(trial)
        try:
            experiment = self.space.suggest(trial, self.base, trial.user_attrs.get(OWN, ()))
        except ValueError as error:  # values that are each allowed, but not together
            self.progress.start(name, 1)
            self._fail(trial, f"{error}", begun=False)
            return
        self.trials[trial.number] = trial
        self.runs.begin(trial, experiment, f"{name}: {short(trial.params)}")
        seeds, steps = self.options.seeds, experiment.train.steps
        self.progress.start(name, seeds * steps)
        inputs = self.maker if self.space.varies_inputs(self.base) else self.made.inputs
        if inputs is not self.maker:
            experiment = replace(experiment, encoders=self.made.experiment.encoders)
        self.workers.start(
            TrialJob(
                number=trial.number, experiment=experiment, inputs=inputs, seeds=seeds, latency=self.options.latency
            )
        )

    def _hear(self, job: TrialJob, message: Message) -> None:
        trial = self.trials[job.number]
        match message:
            case Point():
                self._point(trial, job, message)
            case Died(how=how):
                self._lose(trial, how)
            case End(result=TrialResult() as result):
                self._finish(trial, job, result)
            case End(error=str(error)):
                write_trial(self.options.out, trial.number, {"error": error, "traceback": message.traceback})
                self._fail(trial, error)
            case End():
                self._prune(trial)

    def _point(self, trial: Trial, job: TrialJob, point: Point) -> None:
        if point.evaluation is not None:
            assert point.cider is not None
            last = job.seeds * job.experiment.train.evaluations  # what is left then costs less than it tells
            go_on = self._goes_on(trial, point.evaluation, 100 * point.cider) or point.evaluation == last
            self.workers.answer(trial.number, go_on)
        values = {name: 100 * value if name == "dev.cider" else value for name, value in point.values.items()}
        self.runs.curve(trial.number, point.step, values)
        self.progress.update(_name(trial), point.step, **shown_values(point.values))

    def _goes_on(self, trial: Trial, evaluation: int, cider: float) -> bool:
        if not self.single:  # Optuna has no curve for several objectives
            return True
        try:
            trial.report(cider, evaluation)
        except UpdateFinishedTrialError:
            return False  # taken from this command, which had been silent for too long
        return not trial.should_prune()

    def _finish(self, trial: Trial, job: TrialJob, result: TrialResult) -> None:
        cider = [100 * value for value in result.cider]
        mean, ms = sum(cider) / len(cider), result.ms_per_caption
        found = {"CIDEr": cider, MS: ms, "experiment": to_dict(job.experiment), "captions": result.captions}
        write_trial(self.options.out, trial.number, found)
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr(SEEDS_CIDER, cider)
            trial.set_user_attr(CPU_S, result.train_cpu_s)
            if ms is not None:
                trial.set_user_attr(MS, ms)
                if self.options.max_latency is not None:
                    trial.set_constraint("latency", ms - self.options.max_latency)
        values = [mean] if self.single or ms is None else [mean, ms]
        if not self.budget.done(trial, values, TrialState.COMPLETE):
            self._close(trial, "lost", "another command took it over")
            return
        figures = {"CIDEr": mean, CPU_S: result.train_cpu_s, "parameters": float(result.parameters)}
        self._close(trial, "finished", figures=figures if ms is None else figures | {MS: ms})

    def _prune(self, trial: Trial) -> None:
        if self.budget.done(trial, None, TrialState.PRUNED):
            self._close(trial, "pruned", "CIDEr on dev below the median of the finished trials")
        else:
            self._close(trial, "lost", "another command took it over")

    def _fail(self, trial: Trial, error: str, *, begun: bool = True) -> None:
        self.failures.append(error)
        self.budget.fail(trial, error)
        if begun:
            self._close(trial, "failed", error)
        else:
            self.progress.fail(_name(trial), error)

    def _lose(self, trial: Trial, how: str) -> None:
        self.budget.give_back(trial.number)
        self._close(trial, "lost", how)

    def _close(self, trial: Trial, state: str, note: str = "", figures: dict[str, float] | None = None) -> None:
        del self.trials[trial.number]
        self.runs.end(trial.number, state, figures, note)
        best = best_trials(self.study)
        so_far = f"best {said_of(best[0])} (trial {best[0].number})" if best else "none finished yet"
        if state in ("failed", "lost"):
            again = "; it is run again" if state == "lost" else ""
            self.progress.fail(_name(trial), f"{note}{again}; {so_far}")
        else:
            said = f"CIDEr {figures['CIDEr']:.1f}" if figures else "pruned"
            self.progress.finish(_name(trial), f"{said}; {so_far}")

    def _is_late(self) -> bool:
        return self.until is not None and time.monotonic() > self.until

    def _is_over(self) -> bool:
        progress = self.budget.progress()
        return not progress.running and not progress.waiting

    def _unfinished(self) -> str:
        """How the parent run stands while trials are left: other commands may be at them."""
        return "RUNNING" if self.budget.progress().running > len(self.trials) else "KILLED"

    def _say_beginning(self, left: int) -> None:
        options, done = self.options, self.budget.progress().finished
        print(f"Study {options.study_name}: {done} of {options.trials} trials done, {left} to run", flush=True)
        for line in self.space.lines():
            print(f"  {line}")
        if self.until is not None:
            print(f"  no trial starts after {options.hours:g} hours of this command")

    def _report(self) -> list[FrozenTrial]:
        """Write and print what the study found. Raises TuneError if that is nothing."""
        out = self.options.out
        best = write_results(self.study, self.base, self.space, out)
        if not best:
            raise TuneError(self._why_none())
        save_figures(tuning_figures(self.study), out / "plots")
        print_trials(self.study, self.space)
        print(f"Best settings: regioncap train {self.base.preset} --config {out / BEST} --out DIR")
        print(f"All trials: {out / 'trials.csv'}; plots: {out / 'plots'}; dashboard: {self.runs.dashboard}")
        return best

    def _why_none(self) -> str:
        if self.options.max_latency is not None and not self.failures:
            return f"no trial finished within {self.options.max_latency} ms a caption: raise --max-latency"
        if self.failures:
            return f"no trial finished; the last of {len(self.failures)} that failed here said: {self.failures[-1]}"
        return "no trial finished yet: the same command goes on with the study"


def _name(trial: Trial) -> str:
    return f"trial {trial.number}"
