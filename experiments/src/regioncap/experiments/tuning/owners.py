"""Which trials' owners are alive. An owner is one `regioncap tune` command.

A journal's owners hold a lock of the kernel each, which ends with the process: its death is seen at once. A database's
owners send heartbeats, by the database's clock; one that has been silent for four of them is dead.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState

from regioncap.experiments.tuning.locks import taken_or_none
from regioncap.experiments.tuning.storage import Requeue

OWNER = "owner"
"""User attribute of a trial: who runs it, or ran it last."""
_UNSIGNED = timedelta(seconds=60)
"""Time in which an owner must have signed a trial that it took."""


class LockOwners:
    """For a journal: a locked file each, in a folder beside it."""

    def __init__(self, storage: BaseStorage, journal: Path, requeue: Requeue) -> None:
        self.name = _new_name()
        self._storage, self._requeue = storage, requeue
        self._folder = journal.with_name(journal.name + ".owners")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = taken_or_none(self._folder / self.name)
        assert self._lock is not None, "the name is nobody else's"

    def before_taking(self, trial_id: int) -> None:
        """The lock is held from the beginning."""

    def taken(self, trials: Iterable[int]) -> None:
        """The lock is held to the end."""

    def reap(self, study: optuna.Study) -> None:
        """Fail the trials whose owners' locks are free."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_dead(trial):
                try:
                    # Of several that see the death, the storage lets one alone through.
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                except UpdateFinishedTrialError:
                    continue
                self._requeue(study, self._storage.get_trial(trial._trial_id))

    def close(self) -> None:
        """Let the lock go, and its file."""
        (self._folder / self.name).unlink(missing_ok=True)
        assert self._lock is not None
        self._lock.close()

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is None:
            return trial.datetime_start is not None and datetime.now() - trial.datetime_start > _UNSIGNED
        if owner == self.name:
            return False
        if not (self._folder / owner).exists():
            return True
        lock = taken_or_none(self._folder / owner)
        if lock is None:
            return False
        lock.close()
        return True


class HeartbeatOwners:
    """For a database: a thread that tells it every few seconds which trials are alive."""

    def __init__(self, storage: BaseHeartbeat) -> None:
        self.name = _new_name()
        self._storage = storage
        interval = storage.get_heartbeat_interval()
        assert interval is not None
        self._interval: int = interval
        self._held: frozenset[int] = frozenset()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def before_taking(self, trial_id: int) -> None:
        """A beat before the trial is taken, so that none is ever held without."""
        self._storage.record_heartbeat(trial_id)

    def taken(self, trials: Iterable[int]) -> None:
        """Beat for these from now on."""
        self._held = frozenset(trials)

    def reap(self, study: optuna.Study) -> None:
        """Fail what was silent for too long; the storage then calls `requeue`."""
        fail_stale_trials(study)

    def close(self) -> None:
        """Stop beating."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._interval):
            for trial_id in self._held:
                try:
                    self._storage.record_heartbeat(trial_id)
                except Exception:
                    # The command itself runs into a database that is gone, and says so; a short gap is forgiven.
                    break


Owners = LockOwners | HeartbeatOwners
"""Signs of life, given and read."""


def owners_of(storage: BaseStorage, journal: Path | None, requeue: Requeue) -> Owners:
    """The kind of owners that a storage has; `requeue` is what the storage was opened with."""
    if journal is not None:
        return LockOwners(storage, journal, requeue)
    assert isinstance(storage, BaseHeartbeat)
    return HeartbeatOwners(storage)


def _new_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
