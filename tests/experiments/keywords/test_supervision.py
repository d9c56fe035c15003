"""Keyword heads of a study: kept, read back, and deaf to the images they speak of."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.experiments.config import Experiment
from regioncap.experiments.keywords.inputs import inputs_of
from regioncap.experiments.keywords.supervision import fit_keyword_heads, load_supervision, save_supervision
from regioncap.experiments.prepare import Prepared


@pytest.mark.parametrize("learned", [False, True])
def test_what_is_saved_is_read_back(tiny: Experiment, prepared: Prepared, tmp_path: Path, learned: bool) -> None:
    assert prepared.supervision is not None
    banks = {"scene_keys": prepared.scene_bank, "detail_keys": prepared.detail_bank}
    keys = {name: torch.rand_like(bank.embeddings) if learned else None for name, bank in banks.items()}
    supervision = replace(prepared.supervision, shares=replace(prepared.supervision.shares, **keys))
    save_supervision(supervision, tmp_path)
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
    for name, own in keys.items():
        found = getattr(again.shares, name)
        assert (found is None) if own is None else torch.equal(found, own)


def test_what_a_training_image_is_told_does_not_depend_on_its_own_captions(
    tiny: Experiment, prepared: Prepared
) -> None:
    """Images 0 and 2 are of one fold: with each other's captions they are told the same, to the last bit."""
    images = list(prepared.train_images)
    images[0], images[2] = (replace(images[a], captions=images[b].captions) for a, b in ((0, 2), (2, 0)))
    config, banks = tiny.keywords.training, (prepared.scene_bank, prepared.detail_bank)
    rows = torch.tensor([0, 1, 2])
    one, other = (
        fit_keyword_heads(config, prepared.train, own, None, *banks).held_out(
            rows, inputs_of(prepared.train.images(rows))
        )
        for own in (prepared.train_images, images)
    )
    assert torch.equal(one.detail[[0, 2]], other.detail[[0, 2]])
    assert torch.equal(one.regions[[0, 2]], other.regions[[0, 2]])
    assert not torch.equal(one.detail[1], other.detail[1])  # image 1's heads learned from the two


def test_held_out_queries_are_those_of_the_folds_heads(prepared: Prepared) -> None:
    supervision = prepared.supervision
    assert supervision is not None
    rows = torch.tensor([3, 0])
    images = prepared.train.images(rows)
    said = supervision.held_out(rows, inputs_of(images))
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
