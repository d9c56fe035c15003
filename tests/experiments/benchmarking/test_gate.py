"""The gate: falls for a stage that became slower, not for a machine that became noisy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.benchmarking.gate import (
    Expected,
    read_expected,
    unexpected,
    updated,
    violations,
    write_expected,
)
from regioncap.experiments.benchmarking.record import Ratio

Invent = Callable[..., Any]


@pytest.fixture
def run(record_of: Invent, case_of: Invent, results_of: Invent) -> Invent:
    def run(low: float, median: float, high: float, **more: Any) -> Any:
        ratio = Ratio(peer="PyG", low=low, median=median, high=high)
        return results_of([case_of(record_of(case="GAT", ratios=(ratio,)))], **more)

    return run


def test_only_an_upper_quartile_below_the_allowed_is_a_violation(run: Invent) -> None:
    expected = updated(run(1.9, 2.0, 2.1), [])
    assert (expected[0].median, expected[0].lowest) == (2.0, pytest.approx(0.85 * 1.9, abs=0.01))
    assert violations(run(1.9, 2.0, 2.1), expected) == []
    assert violations(run(0.5, 1.2, 1.7), expected) == []  # noise
    (line,) = violations(run(1.0, 1.1, 1.2), expected)
    assert line.startswith("graph: GAT, PyG / ours (time): 1.10 (quartiles 1.00 to 1.20), at least 1.61 is wanted")


def test_a_ratio_that_was_to_be_measured_and_was_not_is_a_violation(
    run: Invent, record_of: Invent, case_of: Invent, results_of: Invent
) -> None:
    expected = updated(run(1.9, 2.0, 2.1), [])
    gone = results_of([case_of(record_of(case="GAT"))])
    (line,) = violations(gone, expected)
    assert "bench_graph.py was run, but this ratio is not there" in line
    failed = results_of([], failed={"bench_graph.py": "boom"})
    assert len(violations(failed, expected)) == 1
    # Another file, the full set's alone, and another device are not asked for.
    assert violations(results_of([case_of(record_of("decoder"))]), expected) == []
    assert violations(gone, [replace(own, set="full") for own in expected]) == []
    assert len(violations(replace(gone, set="full"), [replace(own, set="full") for own in expected])) == 1
    assert violations(gone, [replace(own, device="cuda") for own in expected]) == []


def test_update_takes_what_was_measured_and_keeps_the_rest(run: Invent) -> None:
    other = Expected(
        file="bench_x.py", case="x: y", peer="z", quantity="time", device="cuda", set="full", median=3.0, lowest=2.0
    )
    before = updated(run(1.9, 2.0, 2.1), [other])
    after = updated(run(2.9, 3.0, 3.1, set="full"), before)
    assert [(own.case, own.median) for own in after] == [("graph: GAT", 3.0), ("x: y", 3.0)]
    assert [own.set for own in after] == ["standard", "full"]  # the full set has the standard one's ratios as well
    assert unexpected(run(1.9, 2.0, 2.1), [other]) == ["graph: GAT, PyG, time"]
    assert unexpected(run(1.9, 2.0, 2.1), after) == []


def test_file_has_a_line_a_ratio_and_comes_back(run: Invent, tmp_path: Path) -> None:
    expected = updated(run(1.9, 2.0, 2.1), [])
    file = tmp_path / "expected_ratios.json"
    assert read_expected(file) == ()
    write_expected(expected, file)
    assert list(read_expected(file)) == expected
    assert len(file.read_text().splitlines()) == len(expected) + 2
    file.write_text('[{"case": "x"}]')
    with pytest.raises(ValueError, match=r"expected_ratios\.json holds no expected ratios .*--update"):
        read_expected(file)
    with pytest.raises(ValueError, match="lowest must be above 0"):
        replace(expected[0], lowest=0.0)
