"""Opening MLflow's store: made once though several processes come first, and told in one line when it is not there."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from regioncap.experiments.environment import environment
from regioncap.experiments.tracking.notes import NOTE
from regioncap.experiments.unreachable import UnreachableError

_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The interface then opens an experiment as one of training runs, not of chats."""
_DATABASES = ("postgresql", "mysql", "mssql")
_PATIENCE_S = 10
"""Seconds that the first answer of a server or database may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowStore:
    """A store that answered."""

    uri: str
    home: Path
    """Folder that artifacts of a local store lie under."""
    client: MlflowClient

    @property
    def shown(self) -> str:
        """The address without its password."""
        return without_password(self.uri)

    def experiment(self, name: str, description: str = "") -> str:
        """The id of the experiment of this name, made now if there is none; several processes may ask at once.

        Raises UnreachableError if the experiment was deleted.
        """
        with _alone(self.uri):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                artifacts = (self.home / "mlartifacts" / name).as_uri() if self.uri.startswith("sqlite:") else None
                tags = _KIND | ({NOTE: description} if description else {})
                try:
                    return self.client.create_experiment(name, artifacts, tags)
                except MlflowException:  # another machine was faster
                    found = self.client.get_experiment_by_name(name)
                    if found is None:
                        raise
        if found.lifecycle_stage == "deleted":
            raise UnreachableError(
                f"MLflow's experiment {name!r} in {self.uri} was deleted: restore it with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or remove it for good with `mlflow gc`"
            )
        experiment_id: str = found.experiment_id
        return experiment_id


def store_uri(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or else the SQLite file in `home`, beside the studies, so that one interface shows all."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.resolve() / 'mlflow.db'}"


def known_uri(home: Path, remembered: str) -> str:
    """The store of a study of which an address without its password is `remembered`, or "".

    MLFLOW_TRACKING_URI goes before. Raises UnreachableError if the password is wanting.
    """
    if "MLFLOW_TRACKING_URI" in os.environ or not remembered or remembered.startswith("sqlite:"):
        return store_uri(home)  # an SQLite file moves with its studies
    if not remembered.startswith(("http:", "https:")) or "***" in remembered:
        raise UnreachableError(f"the study was logged to {remembered}: set MLFLOW_TRACKING_URI to it")
    return remembered


def open_store(home: Path, uri: str | None = None) -> MlflowStore:
    """Open the store of the studies under `home`, and make it if it is a local one that is not there yet.

    `uri` is that of another store than `store_uri`.

    One process at a time: several that make one SQLite file at once crash. Making it takes some seconds, once.
    Raises UnreachableError if it cannot be opened or does not answer.
    """
    uri = uri or store_uri(home)
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table it makes
    try:
        home.mkdir(parents=True, exist_ok=True)
        if uri.startswith(_DATABASES):
            _knock(uri)
        with _alone(uri), _impatient():
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError, ModuleNotFoundError) as error:
        shown, why = without_password(uri), str(error).replace(uri, without_password(uri))
        why = " ".join(why.split("(Background on")[0].split())
        raise UnreachableError(
            f"MLflow's store {shown} cannot be opened ({why[:300]}); mend or unset MLFLOW_TRACKING_URI, or choose "
            "another --out"
        ) from error
    return MlflowStore(uri=uri, home=home.resolve(), client=client)


def without_password(uri: str) -> str:
    """An address as it may be shown and kept."""
    try:
        return make_url(uri).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return uri


def _knock(uri: str) -> None:
    """MLflow tries a database that does not answer for minutes; the driver says at once what is wrong."""
    engine = sqlalchemy.create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """No other process of ours in a SQLite store meanwhile; any other kind of store looks after itself."""
    if not uri.startswith("sqlite:") or not (database := make_url(uri).database):
        yield
        return
    file = Path(database)
    with file.with_name(file.name + ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _impatient() -> AbstractContextManager[None]:
    """A server that is not there is no reason to wait for minutes, as MLflow does for one that is only busy."""
    return environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", MLFLOW_HTTP_REQUEST_TIMEOUT=str(_PATIENCE_S))
