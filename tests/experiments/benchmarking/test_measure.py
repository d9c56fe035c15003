import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.experiments.benchmarking.measure import DEVICE, Rounds, in_turns, percentile


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40), st.floats(0, 1))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    assert percentile(values, share) == pytest.approx(np.percentile(values, 100 * share))


def test_calls_take_turns_back_and_forth() -> None:
    said: list[str] = []
    rounds = in_turns(
        {"a": lambda: said.append("a"), "b": lambda: said.append("b")}, seconds=0.0, rounds=(4, 4), warm_up=1
    )
    assert "".join(said) == "ab" + "ab" + "ba" + "ab" + "ba"
    assert [len(seconds) for seconds in rounds.seconds.values()] == [4, 4]


def test_repeats_are_averaged() -> None:
    said: list[str] = []
    rounds = in_turns({"a": lambda: said.append("a")}, seconds=0.0, rounds=(2, 2), repeats=10, warm_up=3)
    assert len(said) == 3 + 2 * 10
    assert len(rounds.seconds["a"]) == 2


def test_a_call_of_twice_the_work_takes_twice_the_time() -> None:
    rounds = in_turns({"once": _busy(20_000), "twice": _busy(40_000)}, seconds=0.0, rounds=(9, 9), repeats=5)
    ratio = rounds.ratio("twice", "once")
    assert (ratio.peer, ratio.quantity) == ("twice", "time")
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.median == pytest.approx(2.0, rel=0.25)


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU wall time is what counts")
def test_waiting_is_no_cpu_time() -> None:
    rounds = in_turns({"asleep": lambda: time.sleep(0.05)}, seconds=0.0, rounds=(2, 2))
    assert rounds.p50("asleep") < 0.02


def test_medians_and_quartiles_of_rounds_by_hand() -> None:
    rounds = Rounds(seconds={"peer": [2.0, 6.0, 4.0, 8.0, 10.0], "ours": [1.0, 2.0, 4.0, 2.0, 5.0]})
    assert rounds.p50("peer") == 6.0
    assert rounds.p95("peer") == pytest.approx(9.6)
    ratio = rounds.ratio("peer", "ours")  # 2, 3, 1, 4, 2
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 3.0)


@pytest.mark.parametrize("settings", [{"rounds": (0, 3)}, {"rounds": (4, 3)}, {"repeats": 0}, {"warm_up": 0}])
def test_impossible_rounds_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="in_turns wants calls"):
        in_turns({"a": int}, **settings)  # type: ignore[arg-type]


def test_no_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 calls"):
        in_turns({})


def _busy(turns: int) -> Callable[[], object]:
    return lambda: sum(range(turns))
