"""CIDEr-D as a reward beside pycocoevalcap's, in one run, on the same captions; the values must agree.

    pytest benchmarks/bench_reward.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'
    python benchmarks/bench_reward.py     # the same as a plain table

`step` is what a training step asks: 16 images, 5 captions each, 5 references each, document frequencies of 6,000
images that both sides have counted before. `1,000 images` is a caption for each of 1,000, with the references counted
in the measured call on both sides. The sides take turns, and each gives the median of its rounds in CPU time of one
thread. Captions are words drawn by Zipf's law, 5 to 15 each. Takes half a minute.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.experiments.benchmarking.beside import run_beside
from regioncap.experiments.benchmarking.case import Case, Work
from regioncap.experiments.benchmarking.measure import CLOCK, in_turns
from regioncap.experiments.metrics.cider_d import CiderDScorer

IMAGES, REFERENCES, VOCABULARY = 6000, 5, 3000
STEP_IMAGES, SAMPLES, LONE_IMAGES = 16, 5, 1000
FASTER = 8.0
"""How many times as fast as pycocoevalcap this is to be, at the least."""
ROUNDS = {"step": 20, "1,000 images": 5}

Scored = Callable[[], Sequence[float]]


class _AsOf(list[Any]):
    """A step's images that give the number of all: pycocoevalcap counts images and frequencies in one place."""

    def __len__(self) -> int:
        return IMAGES


@cache
def sides() -> dict[str, tuple[Scored, Scored]]:
    """Case -> a call of ours and one of theirs. Raises AssertionError if their values differ."""
    references, captions = _made()
    lone = references[:LONE_IMAGES]
    images = random.Random(1).sample(range(IMAGES), STEP_IMAGES)
    rows = np.repeat(images, SAMPLES)
    said = [captions[(row + 7 * nth) % IMAGES] if nth % 2 else references[row][0] for nth, row in enumerate(rows)]
    kept, counted = CiderDScorer(references), _counted(references)

    def step_of_theirs() -> Sequence[float]:
        scorer = CiderScorer()
        for row, caption in zip(rows, said, strict=True):
            scorer.cook_append(caption, references[row])
        scorer.document_frequency = counted.document_frequency
        scorer.crefs = _AsOf(scorer.crefs)
        scores: list[float] = scorer.compute_cider()
        return scores

    def lone_of_theirs() -> Sequence[float]:
        scorer = CiderScorer()
        for own, caption in zip(lone, captions, strict=False):
            scorer.cook_append(caption, own)
        scores: list[float] = scorer.compute_score()[1].tolist()
        return scores

    def lone_of_ours() -> Sequence[float]:
        scores: list[float] = CiderDScorer(lone).score(np.arange(len(lone)), captions[: len(lone)]).tolist()
        return scores

    cases: dict[str, tuple[Scored, Scored]] = {
        "step": (lambda: kept.score(rows, said).tolist(), step_of_theirs),
        "1,000 images": (lone_of_ours, lone_of_theirs),
    }
    for ours, theirs in cases.values():
        assert list(ours()) == pytest.approx(list(theirs()), abs=1e-9)  # and a warm-up
    return cases


def _counted(references: Sequence[Sequence[str]]) -> CiderScorer:
    scorer = CiderScorer()
    for own in references:
        scorer.cook_append(own[0], own)
    scorer.compute_doc_freq()
    return scorer


def _made() -> tuple[list[list[str]], list[str]]:
    generator = random.Random(0)
    words = [f"w{rank}" for rank in range(VOCABULARY)]
    weights = np.cumsum([1 / rank for rank in range(1, VOCABULARY + 1)]).tolist()

    def caption() -> str:
        return " ".join(generator.choices(words, cum_weights=weights, k=generator.randint(5, 15)))

    return [[caption() for _ in range(REFERENCES)] for _ in range(IMAGES)], [caption() for _ in range(IMAGES)]


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("case", ROUNDS)
def test_reward_speed(benchmark: BenchmarkFixture, case: str) -> None:
    ours, theirs = sides()[case]
    captions = STEP_IMAGES * SAMPLES if case == "step" else LONE_IMAGES
    work = Work(call=ours, images=captions, sizes={"references": REFERENCES})
    told = Case(stage="metrics", name=f"CIDEr-D, {case}", make=Work, rounds=(ROUNDS[case], ROUNDS[case]), memory=False)
    (ratio,) = run_beside(benchmark, told, work, {"pycocoevalcap": theirs}).ratios
    assert ratio.median >= FASTER


def print_table() -> None:
    """Medians and their ratio as Markdown."""
    print("| captions | regioncap, CPU ms | pycocoevalcap, CPU ms | times as fast | at least |")
    print("|---|---:|---:|---:|---:|")
    for case, (ours, theirs) in sides().items():
        taken = in_turns({"ours": ours, "theirs": theirs}, rounds=(ROUNDS[case], ROUNDS[case]))
        own, peer = (1e3 * taken.p50(name) for name in ("ours", "theirs"))
        print(f"| {case} | {own:.1f} | {peer:.1f} | {taken.ratio('theirs', 'ours').median:.1f} | {FASTER:.0f} |")


if __name__ == "__main__":
    print_table()
