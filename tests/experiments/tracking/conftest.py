"""A store of runs in a folder of its own: copies of one that was made once, since making takes seconds."""

import shutil
from collections.abc import Callable
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
