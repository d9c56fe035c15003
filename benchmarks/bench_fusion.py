"""What is before and behind the graph: the adapter (2048 -> 512) and fusion (eq. 10), with their null stages.

    pytest benchmarks/bench_fusion.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.experiments.adapter import NoRegionsConfig
from regioncap.experiments.benchmarking import table2, table2_stages
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK
from regioncap.experiments.benchmarking.scaling import along
from regioncap.experiments.benchmarking.table2_stages import all_valid, inference, joint, raw_regions
from regioncap.graph import GlobalOnlyConfig


def no_regions(images: int) -> Work:
    """The adapter's null form."""
    stage, seen = NoRegionsConfig().build(table2.REGION_DIM, table2.experiment().dim), raw_regions(images)
    return Work(call=inference(lambda: stage(seen)), images=images, sizes={"N": table2.REGIONS}, modules=(stage,))


def global_only(images: int) -> Work:
    """Fusion's null form."""
    stage = GlobalOnlyConfig().build(table2.experiment().dim)
    g, vectors, valid = joint(images), joint(images, table2.REGIONS), all_valid(images, table2.REGIONS)
    call = inference(lambda: stage(g, vectors, valid))
    return Work(call=call, images=images, sizes={"N": table2.REGIONS}, modules=(stage,))


STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage in ("adapter", "fusion")),
    Case(stage="adapter", name="null", make=no_regions, arguments=(table2.IMAGES,), null=True),
    Case(stage="fusion", name="null", make=global_only, arguments=(table2.IMAGES,), null=True),
    *along(
        Case(stage="adapter", name="adapter", make=table2_stages.adapter, seconds=0.5, memory=False),
        "regions",
        (10, 20, 50, 100, 200, 500, 1000),
        (10, 100, 1000),
        lambda regions: (1, regions),
    ),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_fusion_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)
