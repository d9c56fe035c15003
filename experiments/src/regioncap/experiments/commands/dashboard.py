"""The command that opens MLflow's interface over the studies of a folder."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.commands.parsing import parse
from regioncap.experiments.tracking import open_store
from regioncap.experiments.tracking.dashboard import guide


@dataclass(frozen=True, kw_only=True)
class DashboardCommand:
    """MLflow in the browser, over the studies under a folder (or MLFLOW_TRACKING_URI)."""

    home: Path = Path("runs")
    """Folder of the studies; their store is mlflow.db in it, and is made if it is not there yet."""
    port: int = 5000
    host: str = "127.0.0.1"
    """0.0.0.0 lets other machines in; MLflow asks nobody for a password."""


def dashboard_command(arguments: Sequence[str]) -> int:
    """Say what there is to look at, and become MLflow's server."""
    command = parse(DashboardCommand, "regioncap dashboard", arguments)
    store = open_store(command.home)
    address = f"http://{command.host}:{command.port}"
    print(guide(store, address), flush=True)
    if store.uri.startswith(("http:", "https:")):
        return 0  # it has an interface of its own, at this very address
    words = ["server", "--backend-store-uri", store.uri, "--host", command.host, "--port", str(command.port)]
    words += ["--default-artifact-root", (store.home / "mlartifacts").as_uri(), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *words])
