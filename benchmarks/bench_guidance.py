"""Latency and peak memory of guidance on random boundary values; `null` is the floor, `1k` to `50k` the detail bank.

    pytest benchmarks/bench_guidance.py --benchmark-only -o addopts=--import-mode=importlib -o python_files='bench_*.py'

`caption` is what a caption needs: 8 images, forward alone; `train` a forward and backward of 16 images in bfloat16.
`extra_info["peak_mib"]` is what the stage and a call add: peak RSS of a fresh process over its level before the stage
was built, or `max_memory_allocated` where there is a GPU. Takes about a minute on one core.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.guidance import KeywordBank, NoGuidanceConfig, SemanticGuidanceConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DIM = 256
REGIONS = 49
SCENE_WORDS = 300
DETAIL_WORDS = {"null": 1, "1k": 1_000, "10k": 10_000, "50k": 50_000}
JOBS = ("caption", "train")


def random_bank(words: int) -> KeywordBank:
    names = tuple(f"word{row}" for row in range(words))
    return KeywordBank(words=names, counts=(1,) * words, embeddings=torch.randn(words, DIM))


def call_of(case: str, job: str) -> Callable[[], object]:
    """What one round of `job` does, on inputs made beforehand."""
    torch.manual_seed(0)
    config = NoGuidanceConfig() if case == "null" else SemanticGuidanceConfig()
    stage = config.build(DIM, random_bank(SCENE_WORDS), random_bank(DETAIL_WORDS[case])).to(DEVICE)
    images = 8 if job == "caption" else 16
    fused = torch.randn(images, DIM, device=DEVICE, requires_grad=True)
    g = torch.nn.functional.normalize(torch.randn(images, DIM, device=DEVICE), dim=-1)
    regions = torch.randn(images, REGIONS, DIM, device=DEVICE, requires_grad=True)
    valid = torch.ones(images, REGIONS, dtype=torch.bool, device=DEVICE)
    if job == "caption":
        stage.eval()
        return torch.inference_mode()(lambda: stage(fused, g, regions, valid))

    def train() -> None:
        with torch.autocast(DEVICE, torch.bfloat16):
            guidance = stage(fused, g, regions, valid)
        vectors = guidance.scene.sum() + guidance.detail.sum() + guidance.region_detail.abs().sum()
        (vectors + fused.sum()).backward()

    return train


def synchronised(call: Callable[[], object]) -> None:
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def added_mib(case: str, job: str) -> float:
    """Memory that the stage and its calls add in this process; meaningful in a fresh one only."""
    torch.set_num_threads(1)
    if DEVICE == "cuda":
        before = torch.cuda.memory_allocated()
        synchronised(call_of(case, job))
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = peak_kib()
    call = call_of(case, job)
    for _ in range(3):
        call()
    return (peak_kib() - before) / 2**10


def peak_kib() -> int:
    # Not getrusage: its ru_maxrss outlives exec, so that a fresh process starts with its parent's peak.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("case", DETAIL_WORDS)
def test_guidance_speed(benchmark: BenchmarkFixture, case: str, job: str) -> None:
    torch.set_num_threads(1)
    call = call_of(case, job)
    benchmark.group = f"guidance, {job}"
    benchmark.pedantic(synchronised, args=(call,), rounds=10, warmup_rounds=2)  # type: ignore[no-untyped-call]
    fresh = subprocess.run([sys.executable, __file__, case, job], check=True, capture_output=True, text=True)
    benchmark.extra_info["peak_mib"] = round(float(fresh.stdout), 1)


if __name__ == "__main__":
    print(added_mib(sys.argv[1], sys.argv[2]))
