"""Results on disk, and their order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.benchmarking.record import STAGES
from regioncap.experiments.benchmarking.results import (
    by_stage,
    cases_of,
    read_results,
    write_results,
)

Invent = Callable[..., Any]


def test_results_come_back_as_they_went(invent_bench: Invent, tmp_path: Path) -> None:
    results = invent_bench()
    file = write_results(results, tmp_path)
    assert read_results(tmp_path) == read_results(file) == results


def test_the_json_of_pytest_benchmark_gives_cases_with_their_rounds(record_of: Invent) -> None:
    bench = {"extra_info": {"record": record_of().to_dict()}, "stats": {"data": [0.01, 0.02]}}
    other = {"extra_info": {"peak_mib": 3}, "stats": {"data": [1.0]}}
    (case,) = cases_of("bench_graph.py", json.dumps({"benchmarks": [bench, other]}))
    assert (case.file, case.record, case.rounds) == ("bench_graph.py", record_of(), (0.01, 0.02))
    for text in ("[]", "{", '{"benchmarks": [{}]}'):
        with pytest.raises(ValueError, match=r"bench_x\.py: no JSON of pytest-benchmark"):
            cases_of("bench_x.py", text)


def test_pipeline_and_stages_stand_in_the_pipelines_order(
    record_of: Invent, case_of: Invent, results_of: Invent
) -> None:
    stages = ["metrics", *reversed(STAGES)]
    results = results_of([case_of(record_of(stage, pipeline=stage in STAGES)) for stage in stages])
    assert [case.record.stage for case in results.pipeline] == list(STAGES)
    assert list(by_stage(results.cases)) == [*STAGES, "metrics"]
    assert results.end_to_end is None


def test_a_case_is_named_by_stage_case_and_point(invent_bench: Invent) -> None:
    names = [case.name for case in invent_bench().cases]
    assert "graph: GAT" in names
    assert "graph: GAT, regions 100" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("text", "why"), [(None, "cannot be read"), ("{", "no JSON"), ("{}", "no results of this version"), ("[]", "no")]
)
def test_what_holds_no_results_is_said_to(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=rf"results\.json.*{why}.*regioncap bench run"):
        read_results(tmp_path)
