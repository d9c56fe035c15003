"""What is left of a run, guessed from the last one's times."""

import io

from rich.console import Console

from regioncap.experiments.benchmarking.run_progress import RunProgress


class Clock:
    """Goes on when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_remaining_time_follows_the_last_run_and_this_machines_slowness() -> None:
    clock, text = Clock(), io.StringIO()
    files = ["a.py", "b.py", "new.py"]
    with RunProgress(files, {"a.py": 60.0, "b.py": 120.0}, console=Console(file=text), clock=clock) as progress:
        progress.begin("a.py")  # 60 + 120 + 90 for the file that nobody measured
        clock.now = 30.0
        progress.update("a.py", 1, 2)
        clock.now = 120.0
        assert progress.end("a.py", "7 cases") == 120.0
        progress.begin("b.py")  # twice as slow as the last time: 2 * 210
    lines = text.getvalue().splitlines()
    assert lines == [
        "a.py, about 0:04:30 left",
        "a.py 1/2, about 0:04:00 left",
        "a.py: 7 cases, 120 s",
        "b.py, about 0:07:00 left",
    ]


def test_of_files_that_run_at_once_each_is_timed_by_itself_and_the_rest_is_shared() -> None:
    clock, text = Clock(), io.StringIO()
    with RunProgress(
        ["a.py", "b.py"], {"a.py": 100.0, "b.py": 60.0}, console=Console(file=text), clock=clock, jobs=2
    ) as progress:
        progress.begin("a.py")
        clock.now = 10.0
        progress.begin("b.py")
        clock.now = 60.0
        progress.update("b.py", 5, 6)
        clock.now = 70.0
        assert progress.end("b.py", "1 cases") == 60.0
        progress.update("a.py", 1, 2)
        clock.now = 100.0
        assert progress.end("a.py", "1 cases") == 100.0
    assert text.getvalue().splitlines() == [
        "a.py, about 0:01:20 left",
        "b.py, about 0:01:20 left",
        "b.py 5/6, about 0:00:55 left",
        "b.py: 1 cases, 60 s",
        "a.py: 1 cases, 100 s",
    ]
