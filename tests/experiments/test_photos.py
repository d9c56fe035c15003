"""The preset `photos-grid` with its real weights, on a dozen small JPEGs; `photos` differs in its regions alone."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regioncap.decoder import Gpt2DecoderConfig
from regioncap.encoders import ContrastiveConfig
from regioncap.experiments.arms import ARMS, own_arm
from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.config import Experiment, VocabularyConfig
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.encoders import PhotoEncodersSource
from regioncap.experiments.generate import generate_over
from regioncap.experiments.language import LanguageConfig, load_language
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared, prepare
from regioncap.experiments.presets import photos_best, photos_grid
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.train import train


@pytest.fixture(scope="module")
def experiment(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A study of photographs has no business with test pictures: here they are unreadable."""
    root = Path(shutil.copytree(photographs, tmp_path_factory.mktemp("blind") / "flickr"))
    for name in (root / "test.txt").read_text().split():
        (root / "images" / name).write_bytes(b"")
    base = photos_grid()
    assert isinstance(base.encoders, PhotoEncodersSource)
    return replace(
        base,
        data=Flickr8kConfig(root=root),
        encoders=replace(base.encoders, contrastive=ContrastiveConfig(epochs=3), folds=3),
        dim=32,
        vocabulary=VocabularyConfig(min_count=1),
        banks=KeywordBanksConfig(min_count=1),
        graph=replace(base.graph, layers=1),
        decoder=Gpt2DecoderConfig(layers=1, heads=2, width=32, positions=112),
        train=TrainConfig(steps=3, images_per_step=3, evaluations=1),
    )


@pytest.fixture(scope="module")
def study_of_photos(experiment: Experiment, cache: Path) -> Prepared:
    return prepare(experiment, read_data(experiment.data, cache), experiment.encoders.build(), cache)


def test_every_photograph_has_a_grid_of_regions(study_of_photos: Prepared) -> None:
    images = study_of_photos.train.images(torch.arange(6))
    assert images.pooled.shape == (6, 1280)
    assert images.regions.features.shape == (6, 49, 1280)
    assert images.regions.valid.all()
    assert study_of_photos.text_dim == 384


def test_training_photographs_have_offsets_by_heads_that_never_saw_them(study_of_photos: Prepared) -> None:
    assert study_of_photos.offsets.shape == (6, 32)
    assert (study_of_photos.offsets.norm(dim=1) > 1e-3).all()


def test_words_come_from_training_captions(study_of_photos: Prepared) -> None:
    assert {"dog", "red", "beach"} <= set(study_of_photos.tokenizer.words)
    assert "beach" in study_of_photos.scene_bank.words
    assert {"dog", "red"} <= set(study_of_photos.detail_bank.words)


def test_full_captioner_trains_on_them_from_a_language_learned_before(
    experiment: Experiment, study_of_photos: Prepared, scorer: CaptionScorer, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a red dog runs on the beach\nthe blue dog sits\n" * 4)
    config = LanguageConfig(captions=text, steps=2, batch=4)
    weights = config.weights(experiment.decoder, study_of_photos.tokenizer, experiment.vocabulary, {}, tmp_path)
    assert weights is not None
    trained = train(ARMS["+graph+guidance"].make(experiment), study_of_photos, scorer, language=load_language(weights))
    parts = generate_over(trained.captioner, study_of_photos.dev, study_of_photos.tokenizer, experiment.search)
    assert [len(part.texts) for part in parts] == [3]


def test_the_best_settings_want_neither_boxes_nor_a_detector(
    experiment: Experiment, scorer: CaptionScorer, cache: Path
) -> None:
    """25 cells of two trunks, image vector and regions in one pass, words from the captions."""
    best = photos_best()
    assert isinstance(best.encoders, PhotoEncodersSource)
    small = replace(
        experiment,
        preset=best.preset,
        encoders=replace(best.encoders, contrastive=ContrastiveConfig(epochs=3), folds=3),
        banks=replace(best.banks, min_count=1),
        keywords=best.keywords,
        prefix=best.prefix,
    )
    study = prepare(small, read_data(small.data, cache), small.encoders.build(), cache)
    images = study.train.images(torch.arange(6))
    assert images.pooled.shape == (6, 2 * 1280)
    assert images.regions.features.shape == (6, 25, 2 * 1280)
    torch.testing.assert_close(images.regions.features.float().mean(1), images.pooled.float(), rtol=1e-2, atol=1e-2)
    trained = train(ARMS[own_arm(small)].make(small), study, scorer)
    (said,) = generate_over(trained.captioner, study.dev, study.tokenizer, small.search)
    assert len(said.texts) == 3


@pytest.mark.slow
def test_study_of_photographs_runs_on_the_command_line_and_a_test_list_is_evaluated(
    command: Callable[..., Any], photographs: Path, runs: Path, cache: Path, tmp_path: Path
) -> None:
    out, scores = runs / "photos", tmp_path / "test.json"
    arguments = ("--arms", "clipcap", "--train.steps", 2, "--vocabulary.min-count", 1, "--banks.min-count", 1)
    done = command("ablate", "photos-grid", "--data.root", photographs, "--out", out, "--cache", cache, *arguments)
    assert (done.status, done.err) == (0, "")
    folder = tmp_path / "other"
    shutil.copytree(photographs / "images", folder / "images")
    for name in ("captions.txt", "test.txt"):
        shutil.copy(photographs / name, folder / name)
    checkpoint = out / "clipcap" / "seed0" / "checkpoint"
    done = command("evaluate", checkpoint, "--data.root", folder, "--split", "test", "--out", scores, "--cache", cache)
    assert (done.status, done.err) == (0, "")
    assert len(json.loads(scores.read_text())["per_image"]) == 3
