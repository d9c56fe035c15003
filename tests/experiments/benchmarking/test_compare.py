"""What moved: beyond noise, in both directions, with intervals that hold the truth."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from regioncap.experiments.benchmarking.compare import compare_results, comparison_table
from regioncap.experiments.benchmarking.record import Ratio

Invent = Callable[..., Any]


def test_a_run_beside_itself_moved_nothing(invent_bench: Invent) -> None:
    comparison = compare_results(invent_bench(), invent_bench(seed=1))
    assert comparison.changes == comparison.added == comparison.missing == comparison.notes == ()
    table = comparison_table(comparison)
    assert table.rows == ()
    assert table.note.startswith("Nothing moved by more than 5 %")


@pytest.mark.parametrize(("speed", "better"), [(1.3, True), (0.8, False)])
def test_all_times_and_ratios_move_with_the_speed(invent_bench: Invent, speed: float, better: bool) -> None:
    comparison = compare_results(invent_bench(), invent_bench(speed=speed, seed=3))
    times = [change for change in comparison.changes if change.what == "time"]
    assert len(times) == len(invent_bench().cases) - 1  # but for the null stage
    for change in times:
        assert change.ratio == pytest.approx(1 / speed)
        assert change.low <= change.ratio <= change.high
        assert change.better == better
    (ratio,) = [change for change in comparison.changes if "PyG" in change.what]
    assert (ratio.ratio, ratio.better) == (pytest.approx(speed), better)
    assert len(comparison_table(comparison).rows) == len(comparison.changes)


def test_interval_is_that_of_a_bootstrap_written_as_a_loop(
    record_of: Invent, case_of: Invent, results_of: Invent
) -> None:
    a, b = case_of(record_of(p50_s=0.01), spread=0.1), case_of(record_of(p50_s=0.02), spread=0.1, seed=1)
    (change,) = compare_results(results_of([a]), results_of([b]), noise=0.0).changes
    chance = np.random.default_rng(9)
    ratios = [
        np.median(chance.choice(b.rounds, len(b.rounds))) / np.median(chance.choice(a.rounds, len(a.rounds)))
        for _ in range(4000)
    ]
    assert (change.low, change.high) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), rel=0.02)


def test_the_whole_interval_has_to_lie_outside_the_noise(
    record_of: Invent, case_of: Invent, results_of: Invent
) -> None:
    a = results_of([case_of(record_of(p50_s=0.01), spread=0.0)])
    b = results_of([case_of(record_of(p50_s=0.0109), spread=0.0)])
    assert compare_results(a, b, noise=0.10).changes == ()
    assert len(compare_results(a, b, noise=0.08).changes) == 1
    wide = results_of([case_of(record_of(p50_s=0.0109), spread=0.3)])
    assert compare_results(a, wide, noise=0.08).changes == ()


def test_memory_moves_by_more_than_processes_differ(record_of: Invent, case_of: Invent, results_of: Invent) -> None:
    runs = [results_of([case_of(record_of(peak_mib=mib))]) for mib in (20.0, 22.0, 40.0, None)]
    assert compare_results(runs[0], runs[1]).changes == compare_results(runs[0], runs[3]).changes == ()
    (change,) = compare_results(runs[0], runs[2]).changes
    assert (change.what, change.ratio, change.better) == ("memory", 2.0, False)


@pytest.mark.parametrize("other", [{"cpu": "B CPU"}, {"threads": 2}, {"gpu": "H100"}, {"cores": 8}])
def test_another_machine_is_said_first_and_its_times_are_not_compared(
    invent_bench: Invent, other: dict[str, Any]
) -> None:
    comparison = compare_results(invent_bench(), invent_bench(speed=2.0, **other))
    assert comparison.notes[0].startswith(f"another machine: {next(iter(other))} ")
    assert [change.what for change in comparison.changes] == ["time, PyG / ours"]


def test_added_missing_and_busy_are_said(record_of: Invent, case_of: Invent, results_of: Invent) -> None:
    a, b = case_of(record_of(case="a")), case_of(record_of(case="b"))
    machine = results_of([a]).machine
    comparison = compare_results(results_of([a]), results_of([b], machine=replace(machine, load=3.0)))
    assert (comparison.added, comparison.missing, comparison.compared) == (("graph: b",), ("graph: a",), 0)
    assert comparison.notes == ("B was measured on a busy machine (load 3.0 on 4 cores)",)
    assert "Only in A: graph: a." in comparison_table(comparison).note


def test_ratio_moves_only_where_quartiles_are_apart(record_of: Invent, case_of: Invent, results_of: Invent) -> None:
    def run(low: float, median: float, high: float) -> Any:
        ratio = Ratio(peer="p", low=low, median=median, high=high)
        return results_of([case_of(record_of(ratios=(ratio,)))])

    assert compare_results(run(1.0, 1.2, 1.4), run(1.3, 1.7, 1.9)).changes == ()
    (change,) = compare_results(run(1.0, 1.2, 1.4), run(1.6, 1.7, 1.9)).changes
    assert change.better


def test_noise_is_a_share(invent_bench: Invent) -> None:
    with pytest.raises(ValueError, match="noise must lie in"):
        compare_results(invent_bench(), invent_bench(), noise=5.0)
