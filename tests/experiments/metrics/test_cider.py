import pytest
from pycocoevalcap.cider.cider import Cider

from regioncap.experiments.metrics.references import prepare_references


def ours(references, candidates, folder):
    prepared, _ = prepare_references(references, list, folder)
    tested = prepared.index.number([candidates[image] for image in prepared.images])
    return prepared.cider.score(prepared.index.count(tested)).tolist()


def test_equals_pycocoevalcap(material, tmp_path):
    _, wanted = Cider().compute_score(material.truth, material.tested)
    assert ours(material.references, material.candidates, tmp_path) == pytest.approx(wanted.tolist(), abs=1e-12)


def test_equals_pycocoevalcap_on_odd_captions(tmp_path):
    truth = {"a": ["one", "two words"], "b": ["a dog a dog", "a dog", "the dog a dog a dog"], "c": ["red car"]}
    tested = {"a": "", "b": "a dog a dog a dog never seen words", "c": "unseen words only"}
    _, wanted = Cider().compute_score(truth, {image: [caption] for image, caption in tested.items()})
    score = ours(truth, tested, tmp_path)
    assert score == pytest.approx(wanted.tolist(), abs=1e-12)
    assert score[0] == score[2] == 0
    assert score[1] > 0


def test_no_candidate_has_a_word(tmp_path):
    assert ours({"a": ["x y"], "b": ["z"]}, {"a": "", "b": ""}, tmp_path) == [0.0, 0.0]


def test_is_weighed_once_and_unchanged_by_use(tmp_path):
    prepared, _ = prepare_references({"a": ["x y z"], "b": ["z y", "x"]}, list, tmp_path)

    def score(captions):
        return prepared.cider.score(prepared.index.count(prepared.index.number(captions))).tolist()

    before = score(["x y", "z"])
    score(["q q q", "x y z z"])
    assert score(["x y", "z"]) == before
