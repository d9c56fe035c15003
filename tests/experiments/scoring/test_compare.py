"""Intervals and p of whole systems."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.experiments.metrics import METRICS, Scores, bleu
from regioncap.experiments.metrics.references import prepare_references
from regioncap.experiments.scoring import System, compare
from regioncap.experiments.scoring.compare import metrics_to_score
from regioncap.experiments.statistics import paired_bootstrap

unit = st.floats(0, 1)


def system(values, tmp_path, name="system", metric="CIDEr", corpus=None) -> System:
    images = [f"{index}.jpg" for index in range(len(values))]
    scores = Scores(
        corpus={metric: float(np.mean(values)) if corpus is None else corpus},
        per_image={image: {metric: float(value)} for image, value in zip(images, values, strict=True)},
        missing={},
    )
    return System(name=name, file=tmp_path / name, captions=dict.fromkeys(images, "a dog"), scores=scores)


def references_of(one: System) -> dict[str, list[str]]:
    return {image: ["a dog runs"] for image in one.captions}


def interval(values, tmp_path, **options):
    one = system(values, tmp_path)
    return compare(references_of(one), [one], **{"samples": 500, **options}).measured["CIDEr"][0]


def test_p_of_a_mean_is_that_of_the_paired_bootstrap(invented):
    comparison = invented(40, ("one", "two", "three"), gain=0.05, samples=300, seed=4)
    order = sorted(comparison.references)
    assert all(cells[0].p is None for cells in comparison.measured.values())
    for metric in ("ROUGE-L", "CIDEr", "SPICE"):
        per_image = [{image: one.scores.per_image[image][metric] for image in order} for one in comparison.systems]
        for row in (1, 2):
            cell = comparison.measured[metric][row]
            assert cell.p == paired_bootstrap([per_image[row]], [per_image[0]], samples=300, seed=4)


def test_values_are_the_corpus_scores_and_inside_their_intervals(invented):
    comparison = invented()
    assert comparison.metrics == METRICS
    for metric in METRICS:
        for one, cell in zip(comparison.systems, comparison.measured[metric], strict=True):
            assert cell.value == one.scores.corpus[metric]
            assert cell.low < cell.value < cell.high


def test_baseline_is_chosen(invented):
    turned = invented(baseline=1)
    assert [cell.p is None for cell in turned.measured["CIDEr"]] == [False, True]
    assert turned.measured["CIDEr"][0].p == invented().measured["CIDEr"][1].p


def test_interval_of_a_mean_is_that_of_the_normal_distribution(tmp_path):
    values = np.random.default_rng(1).normal(0.5, 0.1, 400)
    cell = interval(values, tmp_path, samples=4000)
    half = 1.96 * values.std() / 20
    assert (cell.low, cell.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.001)


def of_random_words(tmp_path: Path, *seeds: int) -> tuple[dict[str, list[str]], list[System]]:
    """References of 60 images, and a system a seed with its BLEU."""
    words = ["a", "dog", "cat", "man", "runs", "sits", "on", "the"]
    images = [f"{index}.jpg" for index in range(60)]

    def said(generator):
        return " ".join(generator.choice(words, 7))

    generator = np.random.default_rng(3)
    references = {image: [said(generator) for _ in range(3)] for image in images}
    prepared, _ = prepare_references(references, list, tmp_path)
    systems = []
    for generator in map(np.random.default_rng, seeds):
        captions = {image: said(generator) for image in images}
        tokens = prepared.index.number(list(captions.values()))
        counts = prepared.bleu.count(tokens, prepared.index.count(tokens))
        one = system(bleu(counts)[3], tmp_path, metric="BLEU-4", corpus=float(bleu(counts.sum(axis=1))[3]))
        systems.append(replace(one, captions=captions, scores=replace(one.scores, bleu_counts=counts)))
    return references, systems


def test_bleu_is_made_anew_from_the_drawn_images(tmp_path):
    """The interval of corpus BLEU-4, against a loop that adds up the counts of the drawn images."""
    references, (one,) = of_random_words(tmp_path, 4)
    generator = np.random.default_rng(5)
    counts = one.scores.bleu_counts
    draws = [counts[:, generator.integers(60, size=60)].sum(axis=1) for _ in range(3000)]
    wanted = np.quantile([bleu(drawn)[3] for drawn in draws], [0.025, 0.975])
    cell = compare(references, [one], samples=3000).measured["BLEU-4"][0]
    assert (cell.low, cell.high) == pytest.approx(tuple(wanted), abs=0.01)
    assert cell.value == one.scores.corpus["BLEU-4"]


def test_p_of_bleu_is_of_the_drawn_images_bleu(tmp_path):
    """Not of the means of per-image BLEU, which may differ the other way round."""
    references, systems = of_random_words(tmp_path, 4, 8)
    old, new = (one.scores.bleu_counts for one in systems)
    gain = systems[1].scores.corpus["BLEU-4"] - systems[0].scores.corpus["BLEU-4"]
    generator = np.random.default_rng(5)
    far = 0
    for _ in range(3000):
        chosen = generator.integers(60, size=60)
        moved = bleu(new[:, chosen].sum(axis=1))[3] - bleu(old[:, chosen].sum(axis=1))[3]
        far += abs(moved - gain) >= abs(gain)
    assert compare(references, systems, samples=3000).measured["BLEU-4"][1].p == pytest.approx(far / 3000, abs=0.03)


def test_corpus_score_that_is_no_mean_moves_its_interval(tmp_path):
    values = np.random.default_rng(5).random(50)
    mean, moved = (system(values, tmp_path, metric="METEOR", corpus=corpus) for corpus in (None, 0.9))
    a, b = (compare(references_of(one), [one], samples=200).measured["METEOR"][0] for one in (mean, moved))
    assert b.value == 0.9
    assert (b.low - b.value, b.high - b.value) == pytest.approx((a.low - a.value, a.high - a.value))


@settings(max_examples=30, deadline=None)
@given(st.lists(unit, min_size=2, max_size=30))
def test_interval_holds_the_mean(tmp_path_factory, values):
    cell = interval(values, tmp_path_factory.getbasetemp())
    assert cell.low - 1e-9 <= cell.value <= cell.high + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.lists(unit, min_size=6, max_size=20).filter(lambda values: np.std(values) > 0.05))
def test_interval_shrinks_with_more_images(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp()
    few, many = interval(values, path), interval(values * 16, path)
    assert many.high - many.low < 0.5 * (few.high - few.low)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(unit, unit), min_size=2, max_size=15), st.randoms())
def test_order_of_images_is_nothing(tmp_path_factory, pairs, random):
    path = tmp_path_factory.getbasetemp()
    systems = [system([pair[side] for pair in pairs], path, name=str(side)) for side in (0, 1)]
    references = references_of(systems[0])
    turned = list(references)
    random.shuffle(turned)
    straight = compare(references, systems, samples=100)
    shuffled = compare({image: references[image] for image in turned}, systems, samples=100)
    assert shuffled.measured == straight.measured
    assert list(shuffled.references) == turned


def test_metrics_are_chosen_and_missing_ones_told(invented):
    comparison = invented(metrics=("SPICE", "CIDEr", "BLEU-4"), absent={"SPICE": "no jars", "METEOR": "no Java"})
    assert comparison.metrics == ("BLEU-4", "CIDEr")
    assert set(comparison.measured) == set(comparison.per_image) == {"BLEU-4", "CIDEr"}
    assert comparison.missing == {"SPICE": "no jars"}


def test_nothing_to_measure_is_told_with_its_reason(invented):
    with pytest.raises(ValueError, match="no SPICE: no jars"):
        invented(metrics=("SPICE",), absent={"SPICE": "no jars", "METEOR": "no Java"})


def test_seed_and_samples_are_used(tmp_path):
    values = np.random.default_rng(0).random(20)
    lows = {interval(values, tmp_path, samples=samples, seed=seed).low for samples in (50, 51) for seed in (0, 1)}
    assert len(lows) == 4
    assert interval(values, tmp_path, seed=1) == interval(values, tmp_path, seed=1)


def test_summands_of_a_sum_are_asked_for():
    assert metrics_to_score(("SUM",)) == ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE", "SUM")
    assert metrics_to_score(("CIDEr", "BLEU-2")) == ("BLEU-2", "CIDEr")
