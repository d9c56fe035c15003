"""The reward beside pycocoevalcap's scorer, with the document frequencies of a larger set than is scored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.cider.cider_scorer import CiderScorer

from regioncap.experiments.metrics.cider_d import CiderDScorer

References = list[list[str]]
Asked = list[tuple[int, str]]

tokens = st.lists(st.sampled_from(["a", "dog", "cat", "runs", "red", "<eos>"]), max_size=9).map(" ".join)
"""Few words, so that n-grams of every order meet."""
sets = st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=5)


class _AsOf(list[Any]):
    """Images that say they are as many as the frequencies were counted over: all that pycocoevalcap asks them."""

    def __init__(self, content: Sequence[Any], images: int) -> None:
        super().__init__(content)
        self.images = images

    def __len__(self) -> int:
        return self.images


def pycocoevalcap(references: References, asked: Asked) -> list[float]:
    """Its scores with document frequencies fixed to those of all references."""
    whole, some = CiderScorer(), CiderScorer()
    for own in references:
        whole.cook_append(own[0], own)
    whole.compute_doc_freq()
    for image, caption in asked:
        some.cook_append(caption, references[image])
    some.document_frequency = whole.document_frequency
    some.crefs = _AsOf(some.crefs, len(references))
    return [float(score) for score in some.compute_cider()]


def ours(references: References, asked: Asked) -> list[float]:
    images = np.array([image for image, _ in asked], dtype=np.int64)
    return CiderDScorer(references).score(images, [caption for _, caption in asked]).tolist()


@settings(deadline=None, max_examples=200)
@given(
    sets.flatmap(
        lambda references: st.tuples(
            st.just(references),
            st.lists(st.tuples(st.integers(0, len(references) - 1), tokens | st.just("never seen a dog")), max_size=8),
        )
    )
)
@example(([["", ""], ["a"]], [(0, "a dog"), (1, "a"), (0, "")]))
def test_equals_pycocoevalcap_with_fixed_document_frequencies(case: tuple[References, Asked]) -> None:
    references, asked = case
    assert ours(references, asked) == pytest.approx(pycocoevalcap(references, asked), abs=1e-9)


def _has_words(references: References) -> bool:
    """pycocoevalcap fails without any."""
    return any(any(own) for own in references)


@settings(deadline=None, max_examples=100)
@given(sets.filter(_has_words), st.lists(tokens, min_size=5, max_size=5))
def test_equals_pycocoevalcaps_cider_where_every_image_is_asked_for_once(
    references: References, captions: list[str]
) -> None:
    _, wanted = Cider().compute_score(
        dict(enumerate(references)), {image: [captions[image]] for image in range(len(references))}
    )
    asked = [(image, captions[image]) for image in range(len(references))]
    assert ours(references, asked) == pytest.approx(wanted.tolist(), abs=1e-9)


REFERENCES = [["a dog runs", "the dog runs away"], ["a red cat"], ["two children play", "children play ball", "kids"]]


def test_a_caption_scores_the_same_in_any_order_and_any_company() -> None:
    asked = [(2, "two kids play ball"), (0, "a dog"), (0, "the dog runs"), (1, "a cat never seen"), (0, "a dog")]
    together = ours(REFERENCES, asked)
    assert together == [score for one in asked for score in ours(REFERENCES, [one])]
    assert ours(REFERENCES, asked[::-1]) == together[::-1]
    assert together[1] == together[4]


def test_a_reference_itself_scores_ten_where_it_is_the_only_one() -> None:
    long = [["a red cat sits on grass"], ["a dog runs"]]
    assert ours(long, [(0, "a red cat sits on grass")]) == pytest.approx([10.0])


def test_empty_captions_and_unknown_words_score_nothing() -> None:
    assert ours(REFERENCES, [(0, ""), (1, "never seen words at all")]) == [0.0, 0.0]


def test_one_image_has_no_rare_words() -> None:
    assert ours([["a dog runs"]], [(0, "a dog runs")]) == [0.0]


def test_nothing_asked_is_nothing_scored() -> None:
    assert ours(REFERENCES, []) == []


def test_is_not_changed_by_use() -> None:
    scorer = CiderDScorer(REFERENCES)
    before = scorer.score(np.array([0, 2]), ["a dog runs", "kids play"])
    scorer.score(np.array([1, 1]), ["quite other words", "a red cat"])
    assert scorer.score(np.array([0, 2]), ["a dog runs", "kids play"]).tolist() == before.tolist()


def test_references_are_needed() -> None:
    with pytest.raises(ValueError, match="no references to score against"):
        CiderDScorer([])
    with pytest.raises(ValueError, match=r"image 1 needs a list of references, at least one, got none"):
        CiderDScorer([["a dog"], []])
    with pytest.raises(ValueError, match=r"image 0 needs a list of references, at least one, got one string"):
        CiderDScorer(["a dog"])


def test_images_must_be_known_and_as_many_as_captions() -> None:
    scorer = CiderDScorer(REFERENCES)
    with pytest.raises(ValueError, match=r"numbered from 0 to 2, got 3"):
        scorer.score(np.array([0, 3]), ["a", "b"])
    with pytest.raises(ValueError, match=r"numbered from 0 to 2, got -1"):
        scorer.score(np.array([-1]), ["a"])
    with pytest.raises(ValueError, match=r"got 2 and 1"):
        scorer.score(np.array([0]), ["a", "b"])
