"""A store of runs in a folder of its own: copies of one that was made once, since making takes seconds."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regioncap.experiments.tracking import open_store


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("store")
    open_store(home)
    return home / "mlflow.db"


@pytest.fixture
def new_home(made_store: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a folder for studies, its store made but empty."""

    def make() -> Path:
        home = tmp_path / "runs"
        home.mkdir()
        shutil.copy(made_store, home / "mlflow.db")
        return home

    return make


class Server:
    """A real `mlflow server` over an SQLite file, at one address however often it is started."""

    def __init__(self, database: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._words = ["server", "--backend-store-uri", f"sqlite:///{database}", "--workers", "1"]
        self._words += ["--port", str(self.port), "--artifacts-destination", str(folder / "artifacts")]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *self._words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # seconds of its start
            )

    def wait_until_up(self) -> None:
        until = time.monotonic() + 400
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.1)
        raise AssertionError(self._log.read_text()[-2000:])

    def kill(self) -> None:
        """As a machine goes: no process of it gets to say anything."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """It hangs: connections are taken, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


@pytest.fixture
def server(made_store: Path, tmp_path: Path) -> Iterator[Server]:
    """Not started yet."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(made_store, folder / "mlflow.db")
    server = Server(folder / "mlflow.db", folder)
    yield server
    server.kill()
