"""Spans: exclusive times, threads, and classes that are afterwards as they were."""

import threading
import time
from collections import Counter

import pytest
import torch

from regioncap.experiments.profiling.spans import STAGE_METHODS, Spans


class Outer:
    def work(self, inner: "Inner") -> int:
        time.sleep(0.02)
        return inner.work() + inner.work()


class Inner:
    def work(self) -> int:
        time.sleep(0.01)
        return 3


class Heir(Inner):
    """Has its method from above."""


METHODS = ((Outer, "work", "outer"), (Heir, "work", "inner"))
CPU = torch.device("cpu")


def test_time_within_belongs_to_the_inner_stage_alone() -> None:
    with Spans(CPU, METHODS) as spans:
        assert Outer().work(Heir()) == 6
    assert Counter(span.stage for span in spans.kept) == {"inner": 2, "outer": 1}
    seconds = spans.seconds()
    assert seconds["inner"] >= 0.02
    assert 0.02 <= seconds["outer"] < spans.total("outer")
    assert spans.total("outer") == pytest.approx(sum(seconds.values()))


def test_a_stage_in_itself_counts_once() -> None:
    with Spans(CPU, ((Outer, "work", "same"), (Heir, "work", "same"))) as spans:
        Outer().work(Heir())
    assert spans.total("same") == pytest.approx(spans.seconds()["same"])


def test_threads_do_not_count_as_within_each_other() -> None:
    with Spans(CPU, METHODS) as spans:
        thread = threading.Thread(target=Heir().work)
        with spans.span("here"):
            thread.start()
            thread.join()
    assert spans.seconds()["here"] >= spans.seconds()["inner"] >= 0.01
    assert len({span.thread for span in spans.kept}) == 2


def test_methods_are_as_before_even_after_an_error() -> None:
    outer, heir = Outer.work, "work" in vars(Heir)

    def fail() -> None:
        with Spans(CPU, METHODS):
            assert "work" in vars(Heir)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert Outer.work is outer
    assert ("work" in vars(Heir)) == heir is False


def test_an_error_closes_its_span() -> None:
    with Spans(CPU, METHODS) as spans:
        with pytest.raises(AttributeError):
            Outer().work(None)  # type: ignore[arg-type]
        Outer().work(Heir())
    assert Counter(span.stage for span in spans.kept) == {"outer": 2, "inner": 2}
    assert all(span.own_s >= 0 for span in spans.kept)


def test_every_stage_method_is_there() -> None:
    for owner, method, _ in STAGE_METHODS:
        assert callable(getattr(owner, method)), (owner, method)
