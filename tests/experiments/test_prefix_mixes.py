"""Prefixes in other mixes than the arms', through the whole captioner."""

from dataclasses import replace

import pytest
import torch

from regioncap.decoder import FusedPrefixConfig, TokenPrefixConfig
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import from_dict, to_dict
from regioncap.experiments.generate import generate_over
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.objectives.caption import CaptionObjectiveConfig

ALL = TokenPrefixConfig(hidden=16, kinds=("regions", "scene", "detail", "top_detail"), top=3, boxes=True)
MIXES = {
    "the paper": FusedPrefixConfig(hidden=16),
    "the paper, at every position": FusedPrefixConfig(hidden=16, injection="every_position"),
    "everything": ALL,
    "everything, f at every position": replace(ALL, injection="every_position"),
    "words alone": TokenPrefixConfig(tokens=0, kinds=("top_detail", "scene")),
}


@pytest.fixture(params=MIXES)
def captioner(request: pytest.FixtureRequest, tiny: Experiment, prepared: Prepared) -> Captioner:
    captioner = build_captioner(
        replace(tiny, prefix=MIXES[request.param]),
        region_dim=prepared.train.region_dim,
        text_dim=prepared.text_dim,
        clip_head=prepared.clip_head,
        tokenizer=prepared.tokenizer,
        scene_bank=prepared.scene_bank,
        detail_bank=prepared.detail_bank,
    ).eval()
    with torch.no_grad():  # scores that depend on the image
        for parameter in captioner.decoder.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)
    return captioner


def test_captions_of_a_batch_equal_those_one_by_one(captioner: Captioner, prepared: Prepared, tiny: Experiment) -> None:
    """Padded regions have their test with the prefix itself, in tests/decoder/test_prefix_tokens.py."""
    found = {}
    for size in (1, 3, 50):
        parts = list(generate_over(captioner, prepared.dev, prepared.tokenizer, tiny.search, batch_size=size))
        texts = [text for part in parts for text in part.texts]
        found[size] = texts, torch.cat([part.captions.scores for part in parts])
    assert found[1][0] == found[3][0] == found[50][0]
    for size in (1, 3):
        torch.testing.assert_close(found[size][1], found[50][1], rtol=1e-4, atol=1e-5)
    assert found[50][1].std() > 1e-3


def test_loss_reaches_every_parameter_of_the_prefix_and_the_decoder(captioner: Captioner, prepared: Prepared) -> None:
    rows = torch.arange(8)
    condition = captioner.train().condition(*prepared.seen(rows))
    picked = prepared.captions.pick(rows, 2, torch.Generator().manual_seed(0))
    objective = CaptionObjectiveConfig().build(prepared.lessons, captioner.dim)
    torch.stack(list(objective(captioner, condition, picked).terms.values())).sum().backward()
    for stage in (captioner.prefix, captioner.decoder):
        for name, parameter in stage.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("mix", MIXES)
def test_mix_is_written_and_read_back(tiny: Experiment, mix: str) -> None:
    experiment = replace(tiny, prefix=MIXES[mix])
    assert from_dict(Experiment, to_dict(experiment)) == experiment
