"""The commands that open MLflow's interface over the studies of a folder, and deliver what it has not got yet."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from regioncap.experiments.commands.parsing import fail, parse
from regioncap.experiments.tracking import open_store
from regioncap.experiments.tracking.dashboard import guide
from regioncap.experiments.tracking.late_delivery import deliver, undelivered

_DELIVER = "deliver"


@dataclass(frozen=True, kw_only=True)
class DashboardCommand:
    """MLflow in the browser, over the studies under a folder (or MLFLOW_TRACKING_URI).

    `regioncap dashboard deliver DIR...` hands MLflow what it did not take while these studies ran.
    """

    home: Path = Path("runs")
    """Folder of the studies; their store is mlflow.db in it, and is made if it is not there yet."""
    port: int = 5000
    host: str = "127.0.0.1"
    """0.0.0.0 lets other machines in; MLflow asks nobody for a password."""


@dataclass(frozen=True, kw_only=True)
class DeliverCommand:
    """Hand MLflow what it did not take while studies ran. Status 1 if some of it is refused or left."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of studies."""


def dashboard_command(arguments: Sequence[str]) -> int:
    """Say what there is to look at, and become MLflow's server; or deliver."""
    if arguments and arguments[0] == _DELIVER:
        return _deliver(arguments[1:])
    command = parse(DashboardCommand, "regioncap dashboard", arguments)
    store = open_store(command.home)
    address = f"http://{command.host}:{command.port}"
    print(guide(store, address), flush=True)
    for folder, count in undelivered(command.home):
        print(
            f"MLflow lacks {count} entries of {folder}: `regioncap dashboard deliver {folder}` delivers them",
            flush=True,
        )
    if store.uri.startswith(("http:", "https:")):
        return 0  # it has an interface of its own, at this very address
    words = ["server", "--backend-store-uri", store.uri, "--host", command.host, "--port", str(command.port)]
    words += ["--default-artifact-root", (store.home / "mlartifacts").as_uri(), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *words])


def _deliver(arguments: Sequence[str]) -> int:
    command = parse(DeliverCommand, "regioncap dashboard deliver", arguments, DeliverCommand(folders=()))
    if not command.folders:
        raise ValueError("regioncap dashboard deliver wants folders of studies; got none")
    problems = [problem for folder in command.folders for problem in deliver(folder)]
    for problem in problems:
        fail(problem)
    return 1 if problems else 0
