"""`photos`: a detector of the folder's own boxes, from training to the checkpoint that carries it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regioncap.encoders import DetectorTrainingConfig, GridEncoderConfig
from regioncap.experiments import entity_regions
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.dataset import CaptionData, DataError
from regioncap.experiments.data.entities import EntityBoxesConfig
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.encoders import PhotoEncodersSource
from regioncap.experiments.entity_regions import EntityRegionsConfig, trained_regions
from regioncap.experiments.own_detector import detector_folder, with_detector, with_detector_in
from regioncap.experiments.presets import photos, photos_grid, scenes

SHORT = EntityRegionsConfig(
    boxes=EntityBoxesConfig(min_pictures=1, min_attribute_boxes=1),
    training=DetectorTrainingConfig(steps=1, batch_size=2),
    regions=5,
    score_threshold=0.0,
)


@pytest.fixture(scope="module")
def boxed(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs with a dog and a ball in each."""
    root = Path(shutil.copytree(photographs, tmp_path_factory.mktemp("boxed") / "flickr"))
    lines = [
        {
            "image": file.name,
            "size": [100, 80],
            "boxes": {"1": [[0.05, 0.05, 0.4, 0.5]], "2": [[0.5, 0.5, 0.9, 0.9]]},
            "sentences": ["[/EN#1/animals A red dog] sees [/EN#2/other a small ball] ."],
        }
        for file in sorted((root / "images").iterdir())
    ]
    (root / "entities.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture(scope="module")
def trained(boxed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EntityRegionsConfig, Path]:
    cache = tmp_path_factory.mktemp("cache")
    return trained_regions(SHORT, boxed, cache), cache


def read(root: Path) -> CaptionData:
    return Flickr8kConfig(root=root).read()


def experiment(root: Path, image: EntityRegionsConfig | GridEncoderConfig) -> Experiment:
    base = photos()
    assert isinstance(base.encoders, PhotoEncodersSource)
    return replace(base, data=Flickr8kConfig(root=root), encoders=replace(base.encoders, image=image))


def test_the_detector_names_regions_with_the_words_of_the_folder(
    trained: tuple[EntityRegionsConfig, Path], boxed: Path
) -> None:
    encoder = trained[0].build()
    assert set(encoder.words) == {"dog", "ball", "red", "small"}
    assert (encoder.pooled_dim, encoder.regions_per_image, encoder.words_per_region) == (1280, 5, 3)
    (pixels,) = encoder.load(next((boxed / "images").iterdir()))
    regions = encoder(pixels[None]).regions
    assert regions.features.shape == (1, 5, encoder.region_dim)


def test_it_is_trained_once(
    trained: tuple[EntityRegionsConfig, Path], boxed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, cache = trained
    monkeypatch.setattr(entity_regions, "train_detector_on", lambda job: pytest.fail("trained again"))
    assert trained_regions(SHORT, boxed, cache) == first
    assert trained_regions(first, None, cache) is first
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        trained_regions(replace(SHORT, training=replace(SHORT.training, steps=2)), boxed, cache)


def test_other_boxes_are_another_detector(
    trained: tuple[EntityRegionsConfig, Path], boxed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(boxed, tmp_path / "flickr"))
    (other / "entities.jsonl").write_text((boxed / "entities.jsonl").read_text().replace("dog", "cat"))
    monkeypatch.setattr(entity_regions, "train_detector_on", lambda job: None)
    assert trained_regions(SHORT, other, trained[1]).weights != trained[0].weights


def test_a_folder_without_boxes_is_told_the_ways_out(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no entities\.jsonl.*photos-grid.*--encoders\.image\.weights DIR"):
        with_detector(experiment(photographs, EntityRegionsConfig()), read(photographs), tmp_path)
    with pytest.raises(DataError, match=r"data\.root is not given"):
        trained_regions(EntityRegionsConfig(), None, tmp_path)
    with pytest.raises(ValueError, match=r"encoders\.image\.weights is not given.*photos-grid"):
        EntityRegionsConfig().build()


def test_the_key_follows_the_weights_and_the_choice_but_not_the_place(
    trained: tuple[EntityRegionsConfig, Path], tmp_path: Path
) -> None:
    config, _ = trained
    assert config.weights is not None
    moved = replace(config, weights=Path(shutil.copytree(config.weights, tmp_path / "moved")))
    assert moved.key == config.key != replace(config, regions=6).key
    file = tmp_path / "moved" / "detector.json"
    file.write_text(file.read_text() + " ")
    assert moved.key != config.key


def test_only_photos_want_a_detector(tmp_path: Path, trained: tuple[EntityRegionsConfig, Path], boxed: Path) -> None:
    for other in (scenes(), photos_grid()):
        assert with_detector(other, read(boxed), tmp_path) is other
        assert detector_folder(other) is None
        assert with_detector_in(other, tmp_path) is other
    named = with_detector(experiment(boxed, SHORT), read(boxed), trained[1])
    assert detector_folder(named) == trained[0].weights
    assert detector_folder(with_detector_in(named, tmp_path)) == tmp_path


def test_presets_differ_in_their_regions_and_in_what_words_are_learned_from_alone() -> None:
    one, grid = photos(), photos_grid()
    assert isinstance(one.encoders, PhotoEncodersSource)
    assert isinstance(grid.encoders, PhotoEncodersSource)
    encoders = replace(grid.encoders, image=one.encoders.image)
    banks, keywords = replace(grid.banks, source="phrases"), replace(grid.keywords, regions="phrases")
    assert replace(grid, encoders=encoders, banks=banks, keywords=keywords) == one


@pytest.mark.slow
def test_a_study_trains_the_detector_and_its_checkpoint_carries_it(
    command: Callable[..., Any], boxed: Path, runs: Path, tmp_path: Path
) -> None:
    cache, out = tmp_path / "cache", runs / "boxed"
    values = {
        "encoders.image.boxes.min-pictures": 1,
        "encoders.image.training.steps": 1,
        "encoders.image.training.batch-size": 2,
        "train.steps": 2,
        "vocabulary.min-count": 1,
        "banks.min-count": 1,
    }
    flags = [part for name, value in values.items() for part in (f"--{name}", value)]
    done = command("ablate", "photos", "--data.root", boxed, "--out", out, "--cache", cache, "--arms", "+graph", *flags)
    assert (done.status, done.err) == (0, "")
    shutil.rmtree(cache / "detectors")
    picture = next((boxed / "images").iterdir())
    captions = tmp_path / "captions.jsonl"
    done = command("caption", out / "+graph" / "seed0" / "checkpoint", picture, "--out", captions)
    assert (done.status, done.err) == (0, "")
    assert json.loads(captions.read_text())["image"] == str(picture)
