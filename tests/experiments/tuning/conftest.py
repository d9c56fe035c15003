"""A real PostgreSQL, and a study's commands in this process."""

import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
import pytest

from regioncap.experiments.metrics import MetricsConfig
from regioncap.experiments.tuning import trial_workers


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _binaries() -> Path | None:
    """Debian keeps them out of PATH, one folder a version."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def postgresql_server() -> Iterator[str]:
    """A server of its own in a temporary folder; yields an address without a database."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not tested: no initdb on PATH (Debian: apt install postgresql)")
    user = None
    if os.geteuid() == 0:  # a server refuses to run as root
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        shutil.chown(folder, user)
    port = _free_port()

    def run(*command: object) -> None:
        subprocess.run(
            [str(word) for word in command], check=True, user=user, cwd=folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    try:
        run(binaries / "initdb", "-D", folder / "data", "-U", "tuner", "-A", "trust", "-N", "-E", "UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run(binaries / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w", "-o", options, "start")
        try:
            yield f"postgresql://tuner@127.0.0.1:{port}"
        finally:
            run(binaries / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with postgresql_server() as address:
        yield address


@pytest.fixture
def database(postgresql: str, request: pytest.FixtureRequest) -> str:
    """The address of an empty database."""
    import psycopg

    name = "t" + str(abs(hash(request.node.nodeid)) % 10**10)
    with psycopg.connect(f"{postgresql}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")  # type: ignore[call-overload]
    return f"{postgresql}/{name}"


class Threads:
    """Stands in for multiprocessing's context: workers in threads, which need no seconds of imports."""

    Pipe = staticmethod(multiprocessing.Pipe)

    class Process:
        """Enough of a process for TrialWorkers."""

        exitcode = 0

        def __init__(self, target: Callable[..., None], args: tuple[Connection, MetricsConfig]) -> None:
            theirs, metrics = args
            own = Connection(os.dup(theirs.fileno()))  # the caller closes its copy, as it does a process's
            self.thread = threading.Thread(target=target, args=(own, metrics), daemon=True)

        def start(self) -> None:
            self.thread.start()

        def terminate(self) -> None:
            """It ends with its pipe."""

        def join(self) -> None:
            """It ends with its pipe."""


@pytest.fixture(scope="session")
def tune(command: Callable[..., Any], flags: list[str]) -> Callable[..., Any]:
    """`regioncap tune scenes ...` in this process, with one worker, as small as the study of `tiny`."""

    def run(*arguments: object) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trial_workers.multiprocessing, "get_context", lambda method: Threads)
            patch.setattr(trial_workers.signal, "signal", lambda *arguments: None)
            return command("tune", "scenes", *flags, "--workers", 1, *arguments)

    return run
