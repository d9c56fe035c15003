import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.rouge.rouge import Rouge

from regioncap.experiments.metrics import rouge
from regioncap.experiments.metrics.ngrams import NgramIndex

caption = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=12).map(" ".join)


def ours(references: list[list[str]], candidates: list[str]) -> list[float]:
    index, _ = NgramIndex.learn([text for group in references for text in group])
    owner = [number for number, group in enumerate(references) for _ in group]
    truth = index.number([text for group in references for text in group])
    return rouge.rouge_l(truth, index.number(candidates), rouge.np.array(owner)).tolist()


@settings(max_examples=60)
@given(
    sets=st.lists(st.tuples(st.lists(caption, min_size=1, max_size=4), caption | st.just("")), min_size=1, max_size=7)
)
def test_equals_pycocoevalcap(sets: list[tuple[list[str], str]]) -> None:
    references, candidates = [group for group, _ in sets], [text for _, text in sets]
    wanted = [Rouge().calc_score([text], group) for group, text in sets]
    assert ours(references, candidates) == pytest.approx(wanted, abs=1e-12)


def test_equals_pycocoevalcap_in_pieces(material, monkeypatch):
    monkeypatch.setattr(rouge, "_CELLS_AT_ONCE", 60)
    _, wanted = Rouge().compute_score(material.truth, material.tested)
    score = ours(list(material.references.values()), [material.candidates[image] for image in material.references])
    assert score == pytest.approx(wanted.tolist(), abs=1e-12)


def test_precision_and_recall_may_come_from_two_references():
    score = ours([["a b c d e f", "a"]], ["a b c"])
    assert score == pytest.approx([1.0])  # all of the candidate is in the first, all of the second in the candidate
