import os
import signal
import time

import pytest
import torch

from regioncap.experiments.benchmarking.measure import DEVICE, Call
from regioncap.experiments.benchmarking.memory import MIB, peak_mib

pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" or not os.path.exists("/proc/self/clear_refs"), reason="resident memory is Linux's and the CPU's"
)


def numbers(mib: int, held: int) -> Call:
    """Each call fills `mib` MiB and lets go of it; `held` MiB are there before."""
    kept = torch.ones(held * MIB // 4)

    def call() -> None:
        torch.ones(mib * MIB // 4).add_(kept.sum())

    return call


def dying() -> Call:
    """A process that the system ends."""
    os.kill(os.getpid(), signal.SIGKILL)
    return int


def failing(why: str) -> Call:
    raise ValueError(why)


def endless() -> Call:
    time.sleep(60)
    return int


@pytest.mark.parametrize("held", [1, 300])
def test_what_a_call_adds_is_measured_and_not_what_was_there(held: int) -> None:
    added = peak_mib(numbers, 200, held)
    assert added is not None
    assert added == pytest.approx(200, abs=8)


def test_a_process_has_one_thread_and_starts_anew() -> None:
    small = peak_mib(numbers, 5, 1)
    assert small is not None
    assert small < 12


def test_a_process_that_dies_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"the memory of dying\(\) in test_memory.py is not known, its process died"):
        peak_mib(dying)


def test_what_went_wrong_in_the_process_is_said() -> None:
    with pytest.raises(RuntimeError, match="its process failed: ValueError: no such bank"):
        peak_mib(failing, "no such bank")


def test_a_process_that_hangs_is_ended() -> None:
    with pytest.raises(RuntimeError, match="was not known after 1 s"):
        peak_mib(endless, timeout_s=1.0)


def test_a_function_that_no_other_process_can_find_is_refused() -> None:
    def local() -> Call:
        return int

    with pytest.raises(ValueError, match="must be a function at the top of a module"):
        peak_mib(local)
