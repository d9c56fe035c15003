"""A captioner from an experiment's configs: every runtime fact is handed over here and nowhere else."""

import copy
from pathlib import Path

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from regioncap.decoder import CaptionTokenizer, Gpt2Decoder, KeywordPieces, TokenSpread
from regioncap.encoders import ImageTextHead
from regioncap.encoders.quiet import quiet_transformers
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.guidance import (
    KeywordBank,
    KeywordCommittee,
    KeywordHeads,
    NoKeywordHeads,
    SemanticGuidanceConfig,
)


def build_captioner(
    experiment: Experiment,
    *,
    region_dim: int,
    text_dim: int,
    clip_head: ImageTextHead,
    tokenizer: CaptionTokenizer,
    scene_bank: KeywordBank,
    detail_bank: KeywordBank,
    decoder: Gpt2Decoder | None = None,
) -> Captioner:
    """A captioner with fresh weights drawn from the experiment's seed; the head is copied, never shared.

    `decoder` stands in for the one that the experiment's config builds.
    """
    torch.manual_seed(experiment.seed)
    dim = experiment.dim
    if decoder is None:
        with quiet_transformers():
            decoder = experiment.decoder.build(len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    head = copy.deepcopy(clip_head)
    experiment.clip_lora.adapt(head)
    guidance = experiment.guidance.build(dim, scene_bank, detail_bank)
    scales = experiment.guidance.scales if isinstance(experiment.guidance, SemanticGuidanceConfig) else ()
    return Captioner(
        clip_head=head,
        text_projection=nn.Linear(text_dim, dim),
        adapter=experiment.adapter.build(region_dim, dim),
        graph=experiment.graph.build(dim),
        fusion=experiment.fusion.build(dim),
        keyword_heads=_keyword_heads(experiment, clip_head.pooled_dim, region_dim, scene_bank, detail_bank),
        guidance=guidance,
        spread=TokenSpread(tokenizer, guidance.keyword_words, decoder.vocab_size),
        pieces=KeywordPieces(tokenizer, guidance.keyword_words),
        prefix=experiment.prefix.build(dim, decoder.width, guided=bool(scales), scales=scales),
        decoder=decoder,
    )


def _keyword_heads(
    experiment: Experiment, pooled_dim: int, region_dim: int, scene_bank: KeywordBank, detail_bank: KeywordBank
) -> KeywordHeads | KeywordCommittee | NoKeywordHeads:
    match experiment.guidance:
        case SemanticGuidanceConfig(retrieval="learned"):
            heads = experiment.keywords.training.heads.build(pooled_dim, region_dim, scene_bank, detail_bank)
            if experiment.keywords.new_images == "whole":
                return heads
            # Copies draw no chance: with one seed the other stages start alike, whoever is asked.
            return KeywordCommittee([copy.deepcopy(heads) for _ in range(experiment.keywords.training.folds + 1)])
    return NoKeywordHeads()


def blank_decoder(experiment: Experiment, tokenizer: CaptionTokenizer, folder: Path) -> Gpt2Decoder:
    """A decoder of the shape that `folder` describes (transformers' config.json), for weights that come from elsewhere.

    A captioner that started from stored weights needs these neither where it is used nor when it is read back.
    """
    model = GPT2LMHeadModel(GPT2Config.from_pretrained(folder))
    return Gpt2Decoder(experiment.decoder, model, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
