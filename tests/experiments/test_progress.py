import io
import multiprocessing
import re
from threading import Thread

import pytest
from rich.console import Console

from regioncap.experiments.progress import EVERY_S, ByteProgress, StudyProgress, track


def log() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=160, _environ={"TERM": "xterm"})


def seen(console: Console) -> str:
    """What was written, without the codes that move the cursor and set colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def slowly(clock: Clock, count: int, seconds: float):
    for item in range(count):
        yield item
        clock.now += seconds


def test_a_log_gets_a_line_now_and_then():
    clock, console = Clock(), log()
    tracked = track(range(10), description="encode images", total=10, console=console, clock=clock)
    for _ in tracked:
        clock.now += EVERY_S / 4
    assert seen(console).splitlines() == [
        "encode images: 4/10, 0:30 left",
        "encode images: 8/10, 0:10 left",
        "encode images: 10/10 in 0:50",
    ]


def test_a_short_loop_leaves_the_log_alone():
    clock, console = Clock(), log()
    for _ in track(range(10), description="encode", total=10, console=console, clock=clock):
        clock.now += EVERY_S / 11
    assert seen(console) == ""


def test_a_loop_of_unknown_length_promises_nothing():
    clock, console = Clock(), log()
    for _ in track(iter(range(3)), description="read", console=console, clock=clock):
        clock.now += EVERY_S
    assert seen(console).splitlines()[0] == "read: 1"
    assert seen(console).splitlines()[-1] == "read: 3 in 1:00"


@pytest.mark.parametrize("kind", [log, terminal])
@pytest.mark.parametrize("total", [4, None])
def test_every_item_comes_through(kind, total):
    assert list(track("abcd", description="letters", total=total, console=kind())) == list("abcd")
    assert list(track([], description="nothing", total=total, console=kind())) == []


def test_a_terminal_shows_a_bar():
    console = terminal()
    list(track(range(7), description="encode images", total=7, console=console))
    assert "encode images" in seen(console)
    assert "7/7" in seen(console)


def test_an_error_of_the_consumer_frees_the_terminal():
    console = terminal()

    def consume() -> None:
        for _ in track(range(7), description="first", total=7, console=console):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        consume()
    assert "\x1b[?25h" in console.file.getvalue().split("\x1b[?25l")[-1]  # the cursor is back


def test_a_worker_process_stays_silent(monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    clock = Clock()
    for console in (log(), terminal()):
        assert list(track(slowly(clock, 3, 99), description="encode", total=3, console=console, clock=clock)) == [
            0,
            1,
            2,
        ]
        assert seen(console) == ""


def test_a_terminal_shows_bytes_of_a_download():
    console = terminal()
    with ByteProgress("models", total=7_300_000, console=console) as progress:
        progress.advance(2_000_000, kept=True)
        progress.extend(200_000)
        progress.advance(5_500_000)
    assert "models" in seen(console)
    assert "7.5/7.5 MB" in seen(console)


def test_a_log_tells_of_a_download_now_and_then_and_times_only_what_came():
    clock, console = Clock(), log()
    with ByteProgress("models", total=20_000_000, console=console, clock=clock) as progress:
        progress.advance(10_000_000, kept=True)
        clock.now += EVERY_S - 1
        progress.advance(1_000_000)
        clock.now += 1
        progress.advance(1_000_000)
        progress.extend(4_000_000)
        clock.now += EVERY_S
        progress.advance(2_000_000)
    assert seen(console).splitlines() == ["models: 12.0/20.0 MB, 1:20 left", "models: 14.0/24.0 MB, 1:40 left"]


def test_a_log_says_nothing_of_a_short_download():
    console = log()
    with ByteProgress("models", total=1000, console=console, clock=Clock()) as progress:
        progress.advance(1000)
    assert seen(console) == ""


def test_a_log_tells_each_job_now_and_then():
    clock, console = Clock(), log()
    with StudyProgress(2, console=console, clock=clock) as progress:
        progress.start("baseline seed 0", 100)
        clock.now += 5
        progress.update("baseline seed 0", 0, loss=9.0)
        clock.now += 10
        progress.update("baseline seed 0", 10, cider=0.123, lr=0.5)
        clock.now += 10
        progress.update("baseline seed 0", 20, loss=2.5, images_per_s=120.4)
        clock.now += 10
        progress.update("baseline seed 0", 30)
        progress.finish("baseline seed 0", "CIDEr 45.3")
        progress.start("+graph seed 0", 50)
        progress.fail("+graph seed 0", "ValueError: the loss is nan")
    assert seen(console).splitlines() == [
        "baseline seed 0: starts, 100 steps",
        "baseline seed 0: 20/100  loss 2.500  dev CIDEr 12.3  120 images/s  1:20 left"
        "  |  study 10%, 0/2 done, 3:45 left",
        "baseline seed 0: done, CIDEr 45.3  |  study 50%, 1/2 done, 0:35 left",
        "+graph seed 0: starts, 50 steps",
        "+graph seed 0: FAILED, ValueError: the loss is nan  |  study 100%, 2/2 done",
    ]


def test_a_resumed_job_is_timed_from_where_it_began():
    clock, console = Clock(), log()
    with StudyProgress(1, console=console, clock=clock) as progress:
        progress.start("arm", 1000)
        progress.update("arm", 900)
        clock.now += 30
        progress.update("arm", 950)
    assert "arm: 950/1000  0:30 left" in seen(console)


def test_what_an_earlier_run_did_says_nothing_about_the_speed():
    clock, console = Clock(), log()
    with StudyProgress(2, console=console, clock=clock) as progress:
        progress.start("arm", 1000)
        clock.now += 25  # a start that is long enough for a line
        for step in (100, 300, 500):  # a curve that is told again, at once
            progress.recall("arm", step, cider=0.1)
        clock.now += 50
        progress.update("arm", 600)
        progress.finish("arm", "CIDEr 45.3")
    # 100 steps took 50 s, so 400 take 200 s. 0.1 of an arm took the study 75 s, so the 1.4 that are left take 1050 s.
    assert seen(console).splitlines()[1:] == [
        "arm: 600/1000  dev CIDEr 10.0  3:20 left  |  study 30%, 0/2 done, 17:30 left",
        "arm: done, CIDEr 45.3  |  study 50%, 1/2 done, 2:30 left",
    ]


def test_a_job_that_never_started_may_fail():
    console = log()
    with StudyProgress(1, console=console) as progress:
        progress.fail("arm", "no memory")
    assert seen(console) == "arm: FAILED, no memory  |  study 100%, 1/1 done\n"


def test_hours_are_told_as_hours():
    clock, console = Clock(), log()
    with StudyProgress(1, console=console, clock=clock) as progress:
        progress.start("arm", 100)
        progress.update("arm", 0)
        clock.now += 60
        progress.update("arm", 1)
    assert "1:39:00 left" in seen(console)


def test_a_terminal_shows_running_jobs_and_keeps_results():
    console = terminal()
    with StudyProgress(3, console=console) as progress:
        progress.start("baseline seed 0", 10)
        progress.start("[b] seed 1", 10)
        progress.update("baseline seed 0", 5, loss=2.0, cider=0.4)
        progress.finish("baseline seed 0", "CIDEr [45.3]")
        progress.fail("[b] seed 1", "killed")
        progress.fail("never started", "killed")
    text = seen(console)
    assert "baseline seed 0: done, CIDEr [45.3]" in text
    assert "[b] seed 1: FAILED, killed" in text
    assert "never started: FAILED" in text
    assert "study 100%, 3/3 done" in text
    assert "[b] seed 1" in text[: text.index("FAILED")]
    assert text.splitlines()[-1].startswith("study ")


@pytest.mark.parametrize("kind", [log, terminal])
def test_threads_may_report_at_once(kind):
    console = kind()
    with StudyProgress(4, console=console) as progress:

        def work(job: str) -> None:
            progress.start(job, 50)
            for step in range(1, 51):
                progress.update(job, step, loss=1 / step)
            progress.finish(job, "fine")

        threads = [Thread(target=work, args=(f"job {k}",)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(re.findall(r"job \d: done, fine", seen(console))) == [f"job {k}: done, fine" for k in range(4)]


def test_an_empty_study_is_refused():
    with pytest.raises(ValueError, match="0 jobs"):
        StudyProgress(0)


def test_a_loop_tells_what_it_measures_and_what_was_done_before():
    clock, console = Clock(), log()
    losses = iter(range(100))
    tracked = track(
        range(6),
        description="learn",
        total=10,
        completed=4,
        says=lambda: f"loss {next(losses)}",
        console=console,
        clock=clock,
    )
    for _ in tracked:
        clock.now += EVERY_S / 2
    assert seen(console).splitlines() == [
        "learn: 6/10, 0:40 left  loss 0",
        "learn: 8/10, 0:20 left  loss 1",
        "learn: 10/10, 0:00 left  loss 2",
        "learn: 10/10 in 1:00",
    ]
    console = terminal()
    for _ in track(range(6), description="learn", total=10, completed=4, says=lambda: "loss 2.5", console=console):
        pass
    assert "10/10" in seen(console)
    assert "loss 2.5" in seen(console)
