from dataclasses import replace

import pytest
import torch

from regioncap.encoders import AugmentConfig
from regioncap.experiments.config import Experiment
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.images import OnTheFlyImages, TrainingImagesConfig
from regioncap.experiments.training.train import train


def on_the_fly(prepared: Prepared, built: Encoders, config: AugmentConfig, seed: int = 0) -> OnTheFlyImages:
    return OnTheFlyImages(built.image, [image.path for image in prepared.train_images], config, seed)


def test_without_changes_it_gives_what_the_store_gives(prepared: Prepared, built: Encoders) -> None:
    # The store's own batch of 16: in bfloat16 the last digits depend on it.
    rows = torch.arange(16)
    stored = prepared.train.images(rows)
    found = on_the_fly(prepared, built, AugmentConfig()).at(0, rows)
    torch.testing.assert_close(found.pooled, stored.pooled, atol=1e-3, rtol=1e-3)
    slots = stored.regions.valid.shape[1]
    for name in ("boxes", "scores", "valid", "words"):
        torch.testing.assert_close(getattr(found.regions, name)[:, :slots], getattr(stored.regions, name))


def test_changes_are_the_matter_of_seed_and_step(prepared: Prepared, built: Encoders) -> None:
    config, rows = AugmentConfig(crop=0.5, contrast=0.3), torch.tensor([3, 1])
    first = on_the_fly(prepared, built, config)
    one, two = first.at(0, rows).pooled, first.at(1, rows).pooled
    assert not torch.equal(one, two)
    assert torch.equal(on_the_fly(prepared, built, config).at(0, rows).pooled, one)
    assert not torch.equal(on_the_fly(prepared, built, config, seed=1).at(0, rows).pooled, one)


def test_a_change_does_not_depend_on_what_else_is_in_the_batch(prepared: Prepared, built: Encoders) -> None:
    source = on_the_fly(prepared, built, AugmentConfig(crop=0.5))
    together = source.at(3, torch.tensor([4, 1, 2])).pooled
    torch.testing.assert_close(source.at(3, torch.tensor([1])).pooled, together[1:2], atol=1e-3, rtol=1e-3)


def test_stored_features_cannot_change() -> None:
    with pytest.raises(ValueError, match=r"images\.encode is 'once'.*set --images\.encode each-step"):
        TrainingImagesConfig(augment=AugmentConfig(crop=0.5))


def test_training_encodes_at_every_step(tiny: Experiment, prepared: Prepared, scorer: CaptionScorer) -> None:
    changed = TrainingImagesConfig(encode="each-step", augment=AugmentConfig(crop=0.5))
    weights = []
    for images in (TrainingImagesConfig(), TrainingImagesConfig(encode="each-step"), changed):
        trained = train(replace(tiny, images=images), prepared, scorer)
        weights.append(next(iter(trained.captioner.decoder.parameters())))
    assert (weights[1] - weights[0]).abs().mean() < 0.6 * (weights[2] - weights[0]).abs().mean()
    assert not torch.equal(weights[2], weights[1])
