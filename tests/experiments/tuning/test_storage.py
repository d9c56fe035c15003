import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

from regioncap.experiments.tuning.budget import requeue
from regioncap.experiments.tuning.storage import KernelLock, StorageError, journal_of, open_storage, shown


def opened(url: str | None, out: Path) -> BaseStorage:
    return open_storage(url, out, requeue)


def test_a_journal_is_the_default_and_a_path_is_one(tmp_path: Path) -> None:
    assert journal_of(None, tmp_path) == tmp_path / "study.journal"
    assert journal_of("elsewhere/any.journal", tmp_path) == Path("elsewhere/any.journal")
    assert journal_of("postgresql://host/db", tmp_path) is None
    optuna.create_study(storage=opened(None, tmp_path / "new"), study_name="s")
    assert [study.study_name for study in optuna.get_all_study_summaries(opened(None, tmp_path / "new"))] == ["s"]


def test_half_a_line_at_the_end_is_taken_away(tmp_path: Path) -> None:
    """A machine stopped while it wrote: the next line would be joined to it, and nothing could be read."""
    study = optuna.create_study(storage=opened(None, tmp_path), study_name="s")
    study.enqueue_trial({"x": 1})
    journal = tmp_path / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"half')
    study = optuna.load_study(study_name="s", storage=opened(None, tmp_path))
    study.enqueue_trial({"x": 2})
    again = optuna.load_study(study_name="s", storage=opened(None, tmp_path))
    assert [trial.system_attrs["fixed_params"]["x"] for trial in again.trials] == [1, 2]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    journal = tmp_path / "any.journal"
    code = (
        "import sys, time; from pathlib import Path; "
        "from regioncap.experiments.tuning.storage import KernelLock; "
        f"lock = KernelLock(Path({str(journal)!r})); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert holder.stdout is not None
    holder.stdout.readline()
    taken = threading.Event()
    lock = KernelLock(journal)
    thread = threading.Thread(target=lambda: (lock.acquire(), taken.set()))
    thread.start()
    assert not taken.wait(0.3)
    holder.kill()
    start = time.monotonic()
    assert taken.wait(5)
    assert time.monotonic() - start < 5
    thread.join()
    lock.release()
    holder.wait()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:1/db", "postgresql://me:***@127.0.0.1:1/db cannot be reached"),
        ("postgres://me@127.0.0.1:1/db", "cannot be reached"),
        ("nonsense://host", "is no address that can be read"),
        ("mysql://me@host/db", "no driver for it is installed"),
        ("://", "is no address that can be read"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error:
        opened(url, tmp_path)
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        opened(None, tmp_path / "file")
    (tmp_path / "letter").write_text("dear\n")
    with pytest.raises(StorageError, match="cannot be used"):
        optuna.create_study(storage=opened(str(tmp_path / "letter"), tmp_path))


def test_several_make_a_database_at_once(database: str, tmp_path: Path) -> None:
    found: list[object] = []

    def make() -> None:
        try:
            found.append(opened(database, tmp_path))
        except StorageError as error:
            found.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(isinstance(each, BaseStorage) for each in found)


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert "secret" not in shown("postgresql//me:secret@host")
