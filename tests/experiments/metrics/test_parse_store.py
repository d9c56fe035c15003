"""Parses on disk, shared by processes."""

import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from regioncap.experiments.metrics.parse_store import ParseStore

PARSES = {"a red car": [["car"], ["car", "red"]], "ünï 🐈 it's": [["cat", "mat", "on"]], "": []}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "parses.sqlite"


def test_gives_back_what_it_was_given(file):
    store = ParseStore(file)
    store.put(PARSES)
    assert store.get(["", "a red car", "not there", "a red car"]) == {"": [], "a red car": PARSES["a red car"]}
    assert ParseStore(file).get(list(PARSES)) == PARSES
    assert store.problem is None


def test_many_captions(file):
    store = ParseStore(file)
    many = {f"caption {number}": [[str(number)]] for number in range(1700)}
    store.put(many)
    assert ParseStore(file).get(list(many)) == many


def test_the_same_caption_twice_is_no_error(file):
    one, other = ParseStore(file), ParseStore(file)
    one.put(PARSES)
    other.put(PARSES)
    assert one.get(list(PARSES)) == PARSES


def _write(file: Path, own: int) -> None:
    store = ParseStore(file)
    for number in range(30):
        store.put({f"{own} {number}": [["x"]], f"shared {number}": [["y"]]})
    os._exit(0 if store.problem is None else 1)


def test_processes_share_it(file):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(file, own)) for own in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    names = [f"{own} {number}" for own in (*range(4), "shared") for number in range(30)]
    assert len(ParseStore(file).get(names)) == 150


def _write_for_ever(file: Path) -> None:
    store = ParseStore(file)
    for number in range(10**9):
        store.put({f"{number}-{each}": [["x"] * 3] for each in range(100)})


def test_killed_while_writing_loses_whole_batches_only(file):
    for _ in range(3):
        process = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(file,))
        process.start()
        end = time.monotonic() + 10
        while not (file.exists() and ParseStore(file).get(["3-0"])) and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
        process.join()
        store = ParseStore(file)
        for number in range(50):
            found = store.get([f"{number}-{each}" for each in range(100)])
            assert len(found) in (0, 100)
        store.put({"after": [["z"]]})
        assert store.problem is None
        assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_is_no_data_base_is_set_aside(file):
    file.parent.mkdir()
    file.write_text("something else altogether, longer than a header would be " * 20)
    store = ParseStore(file)
    store.put(PARSES)
    assert ParseStore(file).get(list(PARSES)) == PARSES
    assert store.problem is None
    assert (file.parent / "parses.sqlite.damaged").is_file()


def test_a_folder_that_cannot_be_written_keeps_them_in_memory_and_says_so(tmp_path):
    (tmp_path / "file").touch()
    store = ParseStore(tmp_path / "file" / "parses.sqlite")
    store.put(PARSES)
    assert store.get(list(PARSES)) == PARSES
    assert "parses.sqlite" in store.problem


def _with_a_full_disk(file: Path) -> None:
    store = ParseStore(file)
    store.put({"before": [["x"]]})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an error, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, file.stat().st_size))
    many = {f"{number}" * 50: [["y" * 50]] for number in range(500)}
    store.put(many)
    os._exit(0 if store.problem and store.get(list(many)) == many else 1)


def test_a_full_disk_loses_nothing_that_was_kept(file):
    process = multiprocessing.get_context("fork").Process(target=_with_a_full_disk, args=(file,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert ParseStore(file).get(["before"]) == {"before": [["x"]]}


def test_a_row_that_is_no_json_is_no_crash(file):
    store = ParseStore(file)
    store.put(PARSES)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE parses SET tuples = ? WHERE caption = 'a red car'", (json.dumps([1])[:-1],))
    broken = ParseStore(file)
    broken.get(["a red car"])
    assert broken.problem is not None
