import io

import pytest
from rich.console import Console

from regioncap.experiments.image_progress import ImageProgress


def run(steps: list[tuple[float, int]], total: int, error: type[Exception] | None = None) -> str:
    """What a log file gets when so many images are done at these seconds."""
    now = [0.0]
    file = io.StringIO()
    try:
        with ImageProgress("encode train", console=Console(file=file), clock=lambda: now[0]) as progress:
            for second, done in steps:
                now[0] = second
                progress.update(done, total)
            if error is not None:
                raise error
    except ZeroDivisionError:
        pass
    return file.getvalue()


def test_log_file_gets_speed_and_time_left_now_and_then() -> None:
    told = run([(5.0, 10), (15.0, 110), (25.0, 210), (30.0, 400)], 1010).splitlines()
    # 200 images in the 20 s since the first ones, which may have waited for libraries to load.
    assert told == [
        "encode train: 210/1,010, 10 images/s, 0:01:20 left",
        "encode train: 400 images in 0:00:30, 13 images/s",
    ]


def test_short_or_failed_work_is_passed_over() -> None:
    assert run([(0.1, 3), (0.5, 6)], 6) == ""
    assert run([], 6) == ""
    assert run([(3.0, 3)], 6, ZeroDivisionError) == ""


def test_terminal_shows_speed(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120)
    with ImageProgress("encode train", console=console, clock=lambda: now[0]) as progress:
        progress.update(16, 100)
        now[0] = 2.0
        progress.update(96, 100)
    assert "96/100" in file.getvalue()
    assert "40 images/s" in file.getvalue()
    assert "encode train: 96 images in 0:00:02, 48 images/s" in file.getvalue()
