"""A captioner from an experiment's configs: every runtime fact is handed over here and nowhere else."""

import copy

import torch
from torch import nn

from regioncap.decoder import CaptionTokenizer
from regioncap.encoders import ImageTextHead
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.guidance import KeywordBank, NoGuidanceConfig


def build_captioner(
    experiment: Experiment,
    *,
    region_dim: int,
    text_dim: int,
    clip_head: ImageTextHead,
    tokenizer: CaptionTokenizer,
    scene_bank: KeywordBank,
    detail_bank: KeywordBank,
) -> Captioner:
    """A captioner with fresh weights drawn from the experiment's seed; the head is copied, never shared."""
    torch.manual_seed(experiment.seed)
    dim = experiment.dim
    decoder = experiment.decoder.build(len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    return Captioner(
        clip_head=copy.deepcopy(clip_head),
        text_projection=nn.Linear(text_dim, dim),
        adapter=experiment.adapter.build(region_dim, dim),
        graph=experiment.graph.build(dim),
        fusion=experiment.fusion.build(dim),
        guidance=experiment.guidance.build(dim, scene_bank, detail_bank),
        prefix=experiment.prefix.build(
            dim, decoder.width, guided=not isinstance(experiment.guidance, NoGuidanceConfig)
        ),
        decoder=decoder,
    )
