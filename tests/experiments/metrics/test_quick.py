"""The quick CIDEr against pycocoevalcap's own."""

import random

import pytest
from pycocoevalcap.cider.cider import Cider

from regioncap.experiments.metrics import QuickCider
from regioncap.experiments.metrics.quick import plain_words

WORDS = "a dog cat man runs sits on under the grass red blue ball and two <num>"


def captions(images: int, references: int, seed: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    generator = random.Random(seed)

    def caption() -> str:
        return " ".join(generator.choices(WORDS.split(), k=generator.randint(1, 14)))

    names = [f"{index}.jpg" for index in range(images)]
    return {name: [caption() for _ in range(references)] for name in names}, {name: caption() for name in names}


def wheel(references, candidates) -> dict[str, float]:
    truth = {image: [" ".join(plain_words(text)) for text in group] for image, group in references.items()}
    tested = {image: [" ".join(plain_words(candidates[image]))] for image in references}
    _, each = Cider().compute_score(truth, tested)
    return dict(zip(references, each.tolist(), strict=True))


@pytest.mark.parametrize(("images", "references", "seed"), [(2, 1, 0), (7, 5, 1), (60, 3, 2), (150, 5, 3)])
def test_equals_pycocoevalcap(images, references, seed):
    truth, tested = captions(images, references, seed)
    quick = QuickCider(truth)
    assert quick.per_image(tested) == pytest.approx(wheel(truth, tested), abs=1e-9)
    assert quick.mean(tested) == pytest.approx(sum(wheel(truth, tested).values()) / images, abs=1e-9)


def test_equals_pycocoevalcap_on_odd_captions():
    truth = {"a": ["one", "two words"], "b": ["A dog, a DOG!", "a dog", "the dog a dog a dog"], "c": ["red car"]}
    tested = {"a": "", "b": "a dog a dog a dog never seen words", "c": "unseen words only"}
    score = QuickCider(truth).per_image(tested)
    assert score == pytest.approx(wheel(truth, tested), abs=1e-9)
    assert score["a"] == score["c"] == 0
    assert score["b"] > 0


def test_no_candidate_has_a_word():
    assert QuickCider({"a": ["x y"], "b": ["z"]}).per_image({"a": "", "b": "!"}) == {"a": 0.0, "b": 0.0}


def test_is_prepared_once_and_unchanged_by_use():
    truth, first = captions(20, 4, 5)
    _, second = captions(20, 4, 6)
    quick = QuickCider(truth)
    before = quick.per_image(first)
    quick.per_image(second)
    assert quick.per_image(first) == before


def test_order_of_candidates_is_nothing():
    truth, tested = captions(10, 2, 7)
    quick = QuickCider(truth)
    assert quick.per_image(dict(reversed(tested.items()))) == quick.per_image(tested)


def test_words():
    assert plain_words("Two dogs, <num> cats: a T-shirt!") == ["two", "dogs", "<num>", "cats", "a", "t", "shirt"]


@pytest.mark.parametrize("references", [{}, {"a": ["x"]}, {"a": ["x"], "b": []}, {"a": ["x"], "b": "one string"}])
def test_bad_references(references):
    with pytest.raises(ValueError, match="at least"):
        QuickCider(references)


@pytest.mark.parametrize("candidates", [{"a": "x"}, {"a": "x", "b": "y", "odd": "z"}])
def test_images_must_be_the_same(candidates):
    with pytest.raises(ValueError, match=r"image '(b|odd)'"):
        QuickCider({"a": ["x"], "b": ["y"]}).per_image(candidates)
