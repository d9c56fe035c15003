"""The outbox by itself: order, each point once, copies of files, and what a kill leaves."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regioncap.experiments.tracking.outbox import POINTS_AT_ONCE, Outbox

KILLED = """
import sys
from pathlib import Path
from regioncap.experiments.tracking.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
outbox.begin("a", {"parent": None, "config": {}})
for step in range(10**9):
    outbox.put_curve("a", step, {"x": float(step), "y": 0.5}, 1000 + step)
    print(step, flush=True)
"""


def definition(config: Any = None, parent: str | None = None) -> dict[str, Any]:
    return {"title": "t", "tags": {}, "parent": parent, "parameters": {}, "config": config or {}, "started": 1}


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox")
    outbox.begin("a", definition())
    outbox.done(outbox.head())
    yield outbox
    outbox.close()


def points(outbox: Outbox) -> list[list[Any]]:
    """All points, taken out as a delivery takes them."""
    taken = []
    while entries := outbox.head():
        taken += [point for entry in entries for point in entry.content]
        outbox.done(entries)
    return taken


def test_entries_come_in_order_and_points_of_a_run_together(outbox: Outbox) -> None:
    outbox.begin("b", definition())
    for step in range(3):
        outbox.put_curve("a", step, {"x": 1.0}, 10)
        outbox.put_curve("b", step, {"x": 2.0}, 10)
    outbox.put("a", "tags", {"k": "v"})
    outbox.put_curve("a", 3, {"x": 1.0}, 10)
    seen = []
    while entries := outbox.head():
        seen.append((entries[0].run, entries[0].kind, len(entries)))
        outbox.done(entries)
    a, b = outbox.runs.number("a"), outbox.runs.number("b")
    assert seen == [(b, "run", 1), (a, "points", 3), (b, "points", 3), (a, "tags", 1), (a, "points", 1)]
    assert outbox.waiting() == 0


def test_no_more_points_at_once_than_mlflow_takes(outbox: Outbox) -> None:
    for step in range(7):
        outbox.put_curve("a", step, {f"x{i}": 1.0 for i in range(POINTS_AT_ONCE // 3 + 1)}, 10)
    outbox.put_curve("a", 7, {f"x{i}": 1.0 for i in range(2 * POINTS_AT_ONCE + 1)}, 10)
    counts = []
    while entries := outbox.head():
        counts.append(sum(len(entry.content) for entry in entries))
        outbox.done(entries)
    assert max(counts) <= POINTS_AT_ONCE
    assert sum(counts) == 7 * (POINTS_AT_ONCE // 3 + 1) + 2 * POINTS_AT_ONCE + 1


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), min_size=1, max_size=6),
    st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=3, unique=True),
)
def test_whatever_a_training_repeats_each_point_is_delivered_once(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, int, bool]], keys: list[str]
) -> None:
    """Lives of a training: where each begins, how far it comes, and whether all was delivered before the next."""
    folder = tmp_path_factory.mktemp("lives")
    taken: list[list[Any]] = []
    for start, length, delivered in lives:
        outbox = Outbox(folder)
        outbox.begin("a", definition())
        for step in range(start, start + length):
            outbox.put_curve("a", step, {key: float(step) for key in keys}, 10)
        if delivered:
            while entries := outbox.head():
                taken += [point for entry in entries if entry.kind == "points" for point in entry.content]
                outbox.done(entries)
        outbox.close()
    outbox = Outbox(folder)
    while entries := outbox.head():
        taken += [point for entry in entries if entry.kind == "points" for point in entry.content]
        outbox.done(entries)
    outbox.close()
    reached = {step for start, length, _ in lives for step in range(start, start + length)}
    assert sorted((key, step) for key, _, _, step in taken) == sorted((key, step) for key in keys for step in reached)
    assert all(value == step for _, value, _, step in taken)


def test_what_was_put_in_survives_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(next(process.stdout)) for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    told += [int(line) for line in process.stdout.read().splitlines()]
    process.wait()
    outbox = Outbox(tmp_path)
    outbox.done(outbox.head())  # the run
    steps = [step for key, _, _, step in points(outbox) if key == "x"]
    assert steps[: len(told)] == told
    assert len(steps) <= len(told) + 1  # one may have been in and not told of
    outbox.close()


def test_half_an_entry_is_none(outbox: Outbox) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("no value")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "_insert_points", breaks)
        with pytest.raises(RuntimeError, match="no value"):
            outbox.put_curve("a", 1, {"x": 1.0, "y": 2.0}, 10)
    assert outbox.waiting() == 0
    outbox.put_curve("a", 1, {"x": 1.0, "y": 2.0}, 10)
    assert len(points(outbox)) == 2


def test_scores_are_put_in_when_they_change(outbox: Outbox) -> None:
    for value in (1.0, 1.0, 2.0, float("nan"), float("nan"), 1.0):
        outbox.put_scores("a", {"x": value, "y": 5.0}, 10)
    assert [str(value) for key, value, _, _ in points(outbox) if key == "x"] == ["1.0", "2.0", "nan", "1.0"]


def test_files_are_copies_and_go_when_they_are_delivered(outbox: Outbox, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "x.txt").write_text("as it was")

    outbox.put_files("a", fill, "plots")
    outbox.put_files("a", fill, "images", once=("beach", 3))
    outbox.put_files("a", fill, "images", once=("beach", 3))
    assert outbox.waiting() == 2
    assert len(list((outbox.folder / "files").iterdir())) == 2
    (first,) = outbox.head()
    assert first.content["to"] == "plots"
    assert (outbox.files_of(first) / "x.txt").read_text() == "as it was"
    outbox.done([first])
    assert not outbox.files_of(first).exists()
    assert len(list((outbox.folder / "files").iterdir())) == 1


def test_copies_without_an_entry_are_swept_when_they_are_old(outbox: Outbox) -> None:
    outbox.put_files("a", lambda folder: (folder / "x").write_text("x"))
    for name in ("old", "young"):
        (outbox.folder / "files" / name).mkdir()
    for folder in (outbox.folder / "files").iterdir():
        if folder.name != "young":
            os.utime(folder, (0, 0))
    outbox.sweep()
    assert {folder.name for folder in (outbox.folder / "files").iterdir()} == {
        "young",
        outbox.files_of(outbox.head()[0]).name,
    }


def test_refused_entries_are_kept_apart_and_offered_again(outbox: Outbox) -> None:
    outbox.put("a", "tags", {"k": "v"})
    outbox.put_curve("a", 1, {"x": 1.0}, 10)
    outbox.refuse(outbox.head(), "no such run")
    assert outbox.head()[0].kind == "points"
    assert (outbox.waiting(), outbox.refused()) == (1, [("a", "no such run")])
    outbox.offer_refused_again()
    assert outbox.head()[0].kind == "tags"
    assert (outbox.waiting(), outbox.refused()) == (2, [])


def test_next_step_is_behind_the_last(outbox: Outbox) -> None:
    assert outbox.next_step("a", "x") == 0
    outbox.put_curve("a", 4, {"x": 1.0}, 10)
    points(outbox)
    assert (outbox.next_step("a", "x"), outbox.next_step("a", "y")) == (5, 0)


def test_child_of_another_config_is_another_run(outbox: Outbox) -> None:
    outbox.begin("child", definition({"k": (5,)}, "a"))
    first = outbox.runs.number("child")
    outbox.begin("child", definition({"k": (5,)}, "a"))
    assert outbox.runs.number("child") == first
    outbox.begin("child", definition({"k": (6,)}, "a"))
    second = outbox.runs.number("child")
    assert second != first
    assert outbox.runs[second].definition["parent"] == outbox.runs.number("a")
    assert outbox.runs[first].mark != outbox.runs[second].mark
    before = outbox.runs.number("a")
    outbox.begin("a", definition({"k": (7,)}))
    assert outbox.runs.number("a") == before


@pytest.mark.parametrize("content", [b"a letter to my aunt" * 100, b""])
def test_file_that_is_no_outbox_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "outbox.db").write_bytes(content)
    if not content:
        Outbox(tmp_path).close()  # an empty file is a new one
        return
    with pytest.raises(OSError, match=r"outbox.db does not take what is to be logged \(file is not a database\)"):
        Outbox(tmp_path)


def test_disk_that_is_full_is_one_line_and_no_half_entry(outbox: Outbox) -> None:
    outbox._file._database.execute("PRAGMA max_page_count = 1")
    step = -1

    def fill() -> None:
        nonlocal step
        while True:
            outbox.put_curve("a", step + 1, {"x": 1.0}, 10)
            step += 1

    with pytest.raises(OSError, match=r"full.*make room"):
        fill()
    step += 1
    assert step > 0
    outbox._file._database.execute("PRAGMA max_page_count = 100000")
    assert [point[3] for point in points(outbox)] == list(range(step))
    outbox.put_curve("a", step, {"x": 1.0}, 10)
    assert [point[3] for point in points(outbox)] == [step]


def test_two_processes_may_have_it_open(outbox: Outbox) -> None:
    other = Outbox(outbox.folder)
    other.begin("b", definition())
    other.put_curve("b", 1, {"x": 1.0}, 10)
    outbox.put_curve("b", 1, {"x": 1.0}, 10)
    assert outbox.waiting() == other.waiting() == 2
    other.close()


def test_about_is_remembered(outbox: Outbox) -> None:
    outbox.remember(store="sqlite:///x", experiment="e")
    outbox.remember(store="http://x")
    assert outbox.about == {"store": "http://x", "experiment": "e"}


def test_whoever_reads_the_file_finds_a_plain_database(outbox: Outbox) -> None:
    with sqlite3.connect(outbox.folder / "outbox.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
