"""Keyword heads of a study: kept, read back, and deaf to the images they speak of."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.experiments.config import Experiment
from regioncap.experiments.keywords.inputs import inputs_of
from regioncap.experiments.keywords.supervision import fit_keyword_heads, load_supervision, save_supervision
from regioncap.experiments.prepare import Prepared


def test_what_is_saved_is_read_back(tiny: Experiment, prepared: Prepared, tmp_path: Path) -> None:
    assert prepared.supervision is not None
    save_supervision(prepared.supervision, tmp_path)
    again = load_supervision(
        tmp_path,
        tiny.keywords.training,
        pooled_dim=prepared.train.pooled_dim,
        region_dim=prepared.train.region_dim,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    )
    assert len(again.folds) == tiny.keywords.training.folds
    for one, other in zip(
        (*again.folds, again.heads), (*prepared.supervision.folds, prepared.supervision.heads), strict=True
    ):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])
    assert torch.equal(again.shares.regions, prepared.supervision.shares.regions)


def test_what_a_training_image_is_told_does_not_depend_on_its_own_captions(
    tiny: Experiment, prepared: Prepared
) -> None:
    """Image 0 is of fold 0, image 1 of fold 1: other captions of image 0 move what image 1 is told, not what it is."""
    config = replace(tiny.keywords.training, epochs=20, learning_rate=5e-3)
    images = list(prepared.train_images)
    words = " ".join(prepared.detail_bank.words[-5:])
    images[0] = replace(images[0], captions=(words,) * len(images[0].captions))
    fit = [
        fit_keyword_heads(config, prepared.train, own, None, prepared.scene_bank, prepared.detail_bank)
        for own in (prepared.train_images, images)
    ]
    rows = torch.tensor([0, 1])
    one, other = (supervision.held_out(rows, prepared.train.images(rows)) for supervision in fit)
    moved = (one.detail - other.detail).abs().amax(1)
    assert 0 < moved[0] < 0.3 * moved[1]  # of itself it hears no more than that all words' shares moved a little


def test_held_out_queries_are_those_of_the_folds_heads(prepared: Prepared) -> None:
    supervision = prepared.supervision
    assert supervision is not None
    rows = torch.tensor([3, 0])
    images = prepared.train.images(rows)
    said = supervision.held_out(rows, images)
    with torch.no_grad():
        theirs = [heads(inputs_of(images)) for heads in supervision.folds]
    torch.testing.assert_close(said.scene[0], theirs[1].scene[0])
    torch.testing.assert_close(said.scene[1], theirs[0].scene[1])


def test_too_few_images_for_the_folds_are_refused(tiny: Experiment, prepared: Prepared) -> None:
    config = replace(tiny.keywords.training, folds=len(prepared.train_images))
    with pytest.raises(ValueError, match=r"keywords\.folds is 24, but there are 24 training images"):
        fit_keyword_heads(
            config, prepared.train, prepared.train_images, None, prepared.scene_bank, prepared.detail_bank
        )
