"""Prefix forms (eqs. 13-14): the fused vector alone, tokens of many kinds, ClipCap's two mapping networks.

    pytest benchmarks/bench_prefix.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

8 images, 36 regions, 8 scene words, 12 keywords, from width 512 to GPT-2's 768. `fused, one token` is Table 2's.
"""

from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.decoder import FusedPrefixConfig, MlpMappingConfig, TokenPrefixConfig, TransformerMappingConfig
from regioncap.experiments.benchmarking import table2, table2_stages
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE
from regioncap.experiments.benchmarking.scaling import along
from regioncap.experiments.benchmarking.table2_stages import all_valid, inference, joint, raw_regions

STAGE = "prefix"
SCENE_WORDS, KEYWORDS = 8, 12


def prefix(form: str, images: int, tokens: int) -> Work:
    """One form, `tokens` of them from the fused vector."""
    configs: dict[str, Any] = {
        "fused": FusedPrefixConfig(tokens=tokens),
        "tokens": TokenPrefixConfig(tokens=tokens, kinds=("regions", "scene", "keywords")),
        "MLP": MlpMappingConfig(tokens=tokens),
        "transformer": TransformerMappingConfig(tokens=tokens),
    }
    settings = table2.experiment()
    width = settings.decoder.width
    stage = configs[form].build(settings.dim, width, guided=True).to(DEVICE).eval()
    fused, scene, detail = joint(images), joint(images), joint(images)
    regions, region_detail = joint(2, images, table2.REGIONS)
    words = joint(images, SCENE_WORDS)
    told = {
        "region_boxes": raw_regions(images).boxes,
        "keyword_embeddings": joint(images, KEYWORDS, dim=width),
        "keyword_scores": torch.rand(images, KEYWORDS, device=DEVICE),
        "keyword_valid": all_valid(images, KEYWORDS),
    }
    valid = all_valid(images, table2.REGIONS)
    call = inference(lambda: stage(fused, scene, detail, regions, valid, region_detail, words, **told))
    slots = call().embeddings.shape[1]  # type: ignore[attr-defined]
    sizes = {"P": slots, "N": table2.REGIONS, "D": settings.dim, "H": width}
    return Work(call=call, images=images, sizes=sizes, modules=(stage,))


STAGE_CASES = (
    *(step for step in table2_stages.steps() if step.stage == STAGE),
    Case(stage=STAGE, name="fused, 10 tokens", make=prefix, arguments=("fused", table2.IMAGES, 10)),
    Case(stage=STAGE, name="regions and words as tokens", make=prefix, arguments=("tokens", table2.IMAGES, 10)),
    Case(stage=STAGE, name="mapped by an MLP", make=prefix, arguments=("MLP", table2.IMAGES, 10)),
    Case(stage=STAGE, name="mapped by a transformer", make=prefix, arguments=("transformer", table2.IMAGES, 10)),
    *along(
        Case(stage=STAGE, name="fused prefix", make=prefix, seconds=0.5, memory=False),
        "prefix tokens",
        (1, 3, 10, 30, 100),
        (1, 10, 100),
        lambda tokens: ("fused", table2.IMAGES, tokens),
    ),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_prefix_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)
