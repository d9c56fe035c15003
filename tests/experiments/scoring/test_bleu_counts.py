"""BLEU out of added-up counts, against pycocoevalcap's own."""

import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from regioncap.experiments.scoring.bleu_counts import COUNTS, bleu_counts, corpus_bleu

WORDS = ["a", "the", "dog", "cat", "man", "runs", "sits", "on", "under", "grass", "red", "ball"]


def material(images: int, seed: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    generator = random.Random(seed)

    def caption() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(1, 12)))

    names = [str(index) for index in range(images)]
    return {name: [caption() for _ in range(generator.randint(1, 5))] for name in names}, {
        name: caption() for name in names
    }


@pytest.mark.parametrize("seed", range(5))
def test_equals_pycocoevalcap_on_plain_words(seed):
    references, captions = material(40, seed)
    captions["3"] = ""
    counts = bleu_counts(references, [captions], list(references))
    wanted, _ = Bleu(4).compute_score(references, {name: [text] for name, text in captions.items()}, verbose=0)
    assert corpus_bleu(counts[0].sum(axis=1)).tolist() == pytest.approx(wanted, abs=1e-9)
    assert corpus_bleu(counts[0].sum(axis=1, keepdims=True))[:, 0].tolist() == pytest.approx(wanted, abs=1e-9)


def test_counts_follow_the_images_asked_for():
    references, captions = material(6, 9)
    other = {name: references[name][0] for name in references}
    counts = bleu_counts(references, [captions, other], list(references))
    assert counts.shape == (2, COUNTS, 6)
    turned = bleu_counts(references, [captions, other], list(references)[::-1])
    assert np.array_equal(turned, counts[:, :, ::-1])


def test_case_and_punctuation_are_nothing():
    plain = bleu_counts({"x": ["a dog's ball on grass"]}, [{"x": "the dog's ball"}], ["x"])
    odd = bleu_counts({"x": ["A dog's ball, on grass."]}, [{"x": "The -- dog's BALL!"}], ["x"])
    assert np.array_equal(plain, odd)
