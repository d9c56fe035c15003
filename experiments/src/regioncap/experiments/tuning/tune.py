"""The study as one command runs it: workers train, this process alone talks to Optuna and MLflow.

Any number of commands, on any number of machines, work on the same study. The data are read and encoded once, and a
trial computes only what it changes.
"""

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator
from types import FrameType

import optuna
import torch
from mlflow.exceptions import MlflowException
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import MedianPruner, NopPruner
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import open_prepared
from regioncap.experiments.tuning.budget import Budget, requeue
from regioncap.experiments.tuning.locks import taken_or_none
from regioncap.experiments.tuning.neighbour_distance import mean_neighbour_distance
from regioncap.experiments.tuning.options import TuneOptions
from regioncap.experiments.tuning.owners import owners_of
from regioncap.experiments.tuning.run_trial import Made, make_inputs
from regioncap.experiments.tuning.shared_study import join_study, record_study
from regioncap.experiments.tuning.space import Space, Start, default_space, read_space, starts
from regioncap.experiments.tuning.storage import StorageError, journal_of, open_storage, shown
from regioncap.experiments.tuning.trial_job import InputsMaker
from regioncap.experiments.tuning.trial_loop import TrialLoop
from regioncap.experiments.tuning.trial_runs import TrialRuns

_UNPRUNED = 2
"""The first evaluation that may prune: the one before it says more of the warm-up than of the settings."""
_LOCK = "tune.lock"


def tune(base: Experiment, options: TuneOptions) -> list[FrozenTrial]:
    """Run trials until the study has its number, write what it found, and return the best.

    Raises StorageError if the study's or MLflow's store cannot be reached, DataError for data that cannot be used,
    ValueError for settings that do not fit the study, TuneError if no trial finished.
    """
    torch.set_num_threads(1)  # beside workers that have a core each
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the progress says what Optuna would, and more
    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats
    out = options.out
    if options.vary:
        read_space(base, options.vary)  # before anything is made
    if out.exists() and any(out.iterdir()) and not (out / _LOCK).exists():
        raise ValueError(f"{out} is not empty and holds no study: choose another --out")
    lock = taken_or_none(out / _LOCK)
    if lock is None:
        raise ValueError(
            f"another `regioncap tune` works in {out}: --workers is for more of them on one machine, and a command on "
            "another machine takes an --out of its own"
        )
    journal = journal_of(options.storage, out)
    where = str(journal) if journal is not None else shown(str(options.storage))
    try:
        with lock, _terminated_as_interrupted():
            storage = open_storage(options.storage, out, requeue, options.heartbeat_s)
            runs = TrialRuns(out, base.preset)
            maker = InputsMaker(cache=options.cache, features=options.features, unreadable=options.unreadable)
            made = make_inputs(base, maker)
            shared = join_study(storage, base, options, lambda: _new_space(base, made, options))
            record_study(out, options.study_name, where)
            owners = owners_of(storage, journal, requeue)
            pruner = MedianPruner(n_startup_trials=options.warmup_trials, n_warmup_steps=_UNPRUNED)
            budget = Budget(
                shared.study, storage, owners, total=options.trials, seed=base.seed,
                pruner=pruner if options.prune == "median" else NopPruner(),
            )  # fmt: skip
            try:
                return TrialLoop(shared, options, made, maker, budget, runs).run()
            finally:
                with contextlib.suppress(SQLAlchemyError, StorageInternalError):
                    budget.give_back_all()
                owners.close()
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(f"{where} was lost ({_line(error)}); the same command goes on with the study") from error
    except MlflowException as error:
        raise StorageError(f"MLflow's store was lost ({_line(error)}); the same command goes on") from error


def _new_space(base: Experiment, made: Made, options: TuneOptions) -> tuple[Space, list[Start]]:
    distance = mean_neighbour_distance(base, open_prepared(made.inputs.prepared))
    space = read_space(base, options.vary) if options.vary else default_space(base, distance)
    return space, starts(base, space, distance)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, by which Slurm and Kubernetes take a machine back, ends the command as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
