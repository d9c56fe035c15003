from collections.abc import Callable

import pytest
import torch

from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.experiments.prepare import Prepared


@pytest.fixture
def checkpoint(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> Callable[[str], Checkpoint]:
    """A checkpoint of an arm that was hardly trained."""

    def make(arm: str = "+graph+guidance") -> Checkpoint:
        return Checkpoint.of(ARMS[arm].make(tiny), make_captioner(arm), prepared)

    return make


@pytest.fixture
def captioned(prepared: Prepared, tiny: Experiment) -> Callable[[Captioner], tuple[CaptionGenerator, Generated]]:
    """A generator, and its captions of the first four images of dev, without edits."""

    def caption(captioner: Captioner) -> tuple[CaptionGenerator, Generated]:
        generator = CaptionGenerator(captioner, prepared.tokenizer, tiny.search)
        return generator, generator(prepared.dev.images(torch.arange(4)), "abcd")

    return caption
