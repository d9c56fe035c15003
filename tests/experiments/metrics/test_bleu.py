import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu as Wheel

from regioncap.experiments.metrics.bleu import bleu
from regioncap.experiments.metrics.references import prepare_references


def test_equals_pycocoevalcap(material, tmp_path):
    references, _ = prepare_references(material.references, list, tmp_path)
    tested = references.index.number([material.candidates[image] for image in references.images])
    counts = references.bleu.count(tested, references.index.count(tested))
    corpus, each = bleu(counts.sum(axis=1)), bleu(counts)
    wanted, wanted_each = Wheel(4).compute_score(material.truth, material.tested, verbose=0)
    assert corpus.tolist() == pytest.approx(wanted, abs=1e-12)
    assert each == pytest.approx(np.array(wanted_each), abs=1e-12)


def test_length_is_that_of_the_nearest_reference_and_of_two_the_shorter(tmp_path):
    references, _ = prepare_references({"x": ["a b c d", "a b", "a b c d e f g h"]}, list, tmp_path)
    tested = references.index.number(["a b c"])
    counts = references.bleu.count(tested, references.index.count(tested))
    assert counts[-2:, 0].tolist() == [3, 2]
    assert bleu(counts)[0, 0] == pytest.approx(1)  # against "a b c d" it would pay for a missing word
