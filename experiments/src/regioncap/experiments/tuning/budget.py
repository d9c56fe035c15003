"""Which trial a command runs next, so that all commands together run exactly as many as the study is to have.

The study has N places, named by the number of the trial that first stood there. A trial is taken by moving it from
WAITING to RUNNING, which the storage lets one command do. One that is lost with its owner is followed in its place by
another with its parameters. Numbers and losses are for ever, so every command comes to the same N places whatever it
sees late; a trial that two commands add at the same moment waits beyond the N-th and is never run.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from regioncap.experiments.tuning.owners import OWNER, Owners

ERROR = "error"
"""User attribute of a failed trial: what went wrong. One that failed without was lost with its owner."""
START, OWN = "start", "own"
"""User attributes of a trial that the sampler did not choose: why it is there, and `Start.own`."""
ATTEMPT, PLACE = "attempt", "place"
"""User attributes of a trial that follows a lost one: which try this is, and in whose place."""
_TRIES = 3
"""A trial whose owner dies so often is what kills it (out of memory, most likely): it counts as failed."""
_PATIENCE = timedelta(seconds=10)
"""Time for the command that saw a loss to enqueue what follows; after it that command is dead too."""


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial ended with its owner, and another takes its place."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs and _attempt(trial) < _TRIES


def places(trials: Iterable[FrozenTrial]) -> Mapping[int, FrozenTrial]:
    """Place -> the trial that stands there: the first that is not lost, else the last; in the order of places."""
    found: dict[int, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        place = _place(trial)
        if place not in found or is_lost(found[place]):
            found[place] = trial
    return dict(sorted(found.items()))


def requeue(study: optuna.Study, lost: FrozenTrial) -> None:
    """Let the parameters of a lost trial be tried again, unless they were often enough."""
    if not is_lost(lost):
        return
    kept = {name: value for name, value in lost.user_attrs.items() if name in (START, OWN)}
    parameters = lost.system_attrs.get("fixed_params", {}) | lost.params
    study.enqueue_trial(parameters, {**kept, ATTEMPT: _attempt(lost) + 1, PLACE: _place(lost)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the whole study is, over all commands."""

    finished: int
    running: int
    waiting: int
    """Trials that are to run, or to run again."""


class Budget:
    """Takes and ends trials of one study; every command has one. `total` is N."""

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        owners: Owners,
        *,
        total: int,
        seed: int,
        pruner: BasePruner | None = None,
    ) -> None:
        self._study, self._storage, self._owners = study, storage, owners
        self._total, self._seed, self._pruner = total, seed, pruner
        self._held: dict[int, int] = {}  # number -> id

    def take(self) -> Trial | None:
        """The next trial, now this command's to run; None if there is none to take now."""
        self._owners.reap(self._study)
        while True:
            standing = places(self._study.get_trials(deepcopy=False))
            for trial in list(standing.values())[: self._total]:
                if trial.state == TrialState.WAITING and self._take(trial):
                    return self._trial(trial)
                if is_lost(trial) and datetime.now() - (trial.datetime_complete or datetime.min) > _PATIENCE:
                    requeue(self._study, trial)
            if len(standing) >= self._total:
                return None
            self._study.enqueue_trial({})  # the sampler chooses when it is taken, with all that is known by then

    def progress(self) -> Progress:
        """Of the study, whoever runs it."""
        standing = list(places(self._study.get_trials(deepcopy=False)).values())[: self._total]
        over = sum(trial.state.is_finished() and not is_lost(trial) for trial in standing)
        running = sum(trial.state == TrialState.RUNNING for trial in standing)
        return Progress(finished=over, running=running, waiting=self._total - over - running)

    def done(self, trial: Trial, values: list[float] | None, state: TrialState) -> bool:
        """End a trial; False if it was taken from this command, which had been silent for too long."""
        self._release(trial.number)
        return self._study.tell(trial.number, values, state, skip_if_finished=True).state == state

    def fail(self, trial: Trial, error: str) -> None:
        """End a trial that its own settings made fail; it counts."""
        with suppress(UpdateFinishedTrialError):  # it was taken from this command, and failed as lost
            trial.set_user_attr(ERROR, error)
        self.done(trial, None, TrialState.FAIL)

    def give_back(self, number: int) -> None:
        """A trial is lost with its worker, or this command ends: somebody is to run it again."""
        trial_id = self._held[number]
        self._release(number)
        try:
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # whoever ended it has enqueued it
        requeue(self._study, self._storage.get_trial(trial_id))

    def give_back_all(self) -> None:
        """This command ends."""
        for number in list(self._held):
            self.give_back(number)

    def _take(self, trial: FrozenTrial) -> bool:
        trial_id = trial._trial_id
        self._owners.before_taking(trial_id)
        try:
            if not self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        self._held[trial.number] = trial_id
        self._owners.taken(self._held.values())
        self._storage.set_trial_user_attr(trial_id, OWNER, self._owners.name)
        return True

    def _trial(self, trial: FrozenTrial) -> Trial:
        """As `study.ask` makes it, which would also take trials beyond the budget.

        The chance of a trial is that of its number: it neither repeats another command's nor depends on who runs it.
        The study is loaded anew, since one object keeps what its sampler saw when it chose last.
        """
        chance = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        study = optuna.load_study(
            study_name=self._study.study_name,
            storage=self._storage,
            sampler=TPESampler(seed=chance),
            pruner=self._pruner,
        )
        return Trial(study, trial._trial_id)

    def _release(self, number: int) -> None:
        self._held.pop(number, None)
        self._owners.taken(self._held.values())


def _attempt(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(ATTEMPT, 1))


def _place(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(PLACE, trial.number))
