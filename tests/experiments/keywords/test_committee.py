"""Pictures outside of training are answered by all heads, training images by those that did not see them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.train import check_heads, fresh_captioner
from regioncap.guidance import KeywordCommittee


@pytest.fixture
def whole(tiny: Experiment, prepared: Prepared) -> Captioner:
    torch.manual_seed(0)
    return fresh_captioner(tiny, prepared).eval()


@pytest.fixture
def asking_all(tiny: Experiment) -> Experiment:
    return replace(tiny, keywords=replace(tiny.keywords, new_images="all"))


@pytest.fixture
def committee(asking_all: Experiment, prepared: Prepared) -> Captioner:
    torch.manual_seed(0)
    return fresh_captioner(asking_all, prepared).eval()


def test_with_one_seed_all_other_stages_start_alike(whole: Captioner, committee: Captioner) -> None:
    ours = committee.state_dict()
    for name, weight in whole.state_dict().items():
        assert name.startswith("keyword_heads.") or torch.equal(ours[name], weight), name


@torch.no_grad()
def test_training_images_are_told_the_same_and_new_ones_what_all_heads_say(
    prepared: Prepared, whole: Captioner, committee: Captioner
) -> None:
    assert prepared.supervision is not None
    assert isinstance(committee.keyword_heads, KeywordCommittee)
    assert len(committee.keyword_heads.heads) == len(prepared.supervision.folds) + 1
    rows = torch.arange(4)
    seen = [captioner.condition(*prepared.seen(rows)).prefix.embeddings for captioner in (whole, committee)]
    assert torch.equal(*seen)
    new = prepared.dev.images(rows)
    told, wanted = committee.condition(new).guidance.keywords, whole.condition(new).guidance.keywords
    assert not torch.allclose(told.gains, wanted.gains)
    committee.keyword_heads.heads = torch.nn.ModuleList([prepared.supervision.heads])
    torch.testing.assert_close(committee.condition(new).guidance.keywords.gains, wanted.gains)


@torch.no_grad()
def test_a_checkpoint_brings_all_heads_back(
    prepared: Prepared, asking_all: Experiment, committee: Captioner, tmp_path: Path
) -> None:
    stored = Checkpoint.of(asking_all, committee, prepared)
    save_checkpoint(stored, tmp_path / "checkpoint")
    again = load_checkpoint(tmp_path / "checkpoint").captioner.eval()
    new = prepared.dev.images(torch.arange(4))
    assert torch.equal(again.condition(new).prefix.embeddings, committee.condition(new).prefix.embeddings)
    check_heads(again, prepared, tmp_path)
    assert isinstance(again.keyword_heads, KeywordCommittee)
    again.keyword_heads.heads[1].mix.add_(1)
    with pytest.raises(ValueError, match="checkpoint"):
        check_heads(again, prepared, tmp_path / "checkpoint")
