"""Table 2 end to end, on small models in the published formats."""

import json
from dataclasses import replace

import pytest
import torch

from regioncap.decoder import FusedPrefixConfig
from regioncap.encoders import (
    ClipEncoderConfig,
    ClipTail,
    FasterRcnnEncoderConfig,
    GridEncoderConfig,
    TextEncoderConfig,
    VitMapConfig,
)
from regioncap.experiments.arms import ARMS
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.data.sources import read_data
from regioncap.experiments.encoders import PaperEncodersSource
from regioncap.experiments.prepare import prepare
from regioncap.experiments.presets import paper
from regioncap.experiments.training.phases import set_trainable
from regioncap.experiments.training.train import train


@pytest.fixture(scope="module")
def source(clip_folder, bert_folder, scenes_weights):
    return PaperEncodersSource(
        clip=ClipEncoderConfig(weights=str(clip_folder), trainable_layers=2),
        regions=FasterRcnnEncoderConfig(weights=scenes_weights, regions=5),
        text=TextEncoderConfig(weights=str(bert_folder)),
    )


@pytest.fixture(scope="module")
def small(source, gpt2_folder, photographs):
    base = paper()
    return replace(
        base,
        data=replace(base.data, root=photographs),
        encoders=source,
        dim=24,
        banks=replace(base.banks, min_count=1),
        graph=replace(base.graph, k=2, heads=2),
        prefix=replace(base.prefix, hidden=16),
        decoder=replace(base.decoder, weights=str(gpt2_folder)),
        train=replace(base.train, steps=4, images_per_step=3, evaluations=1, evaluation_images=3),
        search=replace(base.search, beams=2, max_new_tokens=6),
    )


@pytest.fixture(scope="module")
def ready(small, tmp_path_factory):
    cache = tmp_path_factory.mktemp("paper-cache")
    return prepare(small, read_data(small.data, cache), small.encoders.build(), cache)


def test_the_preset_is_table_2():
    table = paper()
    assert table.encoders.clip.weights == "openai/clip-vit-base-patch32"
    assert table.encoders.text.weights == "bert-base-uncased"
    assert isinstance(table.encoders.regions, FasterRcnnEncoderConfig)
    assert (table.dim, table.graph.k, table.search.beams) == (512, 5, 5)
    assert (table.decoder.weights, table.decoder.width) == ("gpt2", 768)
    assert table.prefix == FusedPrefixConfig(tokens=1)
    assert (table.train.lr, table.train.schedule, table.train.images_per_step) == (1e-4, "step", 64)
    assert table.train.steps == 30 * (6000 // 64)
    assert (table.phase1.clip_layers, table.phase1.decoder) == (0, False)
    assert (table.phase2.clip_layers, table.phase2.decoder) == (2, True)
    assert table.encoders.clip.trainable_layers == table.phase2.clip_layers
    assert (table.objective.alpha1, table.objective.alpha2) == (0.7, 0.3)


def test_stored_features_lead_to_clips_own_embedding(ready, source, clip_folder):
    whole = ClipEncoderConfig(weights=str(clip_folder)).build()
    images = ready.train.images(torch.arange(len(ready.train)))
    pixels = torch.stack([whole.load(image.path)[0] for image in ready.train_images])
    torch.testing.assert_close(ready.clip_head.embed_image(images.pooled), whole.embed_image(pixels), atol=3e-3, rtol=0)
    assert not ready.offsets.any()
    words = list(ready.detail_bank.words)
    torch.testing.assert_close(ready.detail_bank.embeddings, whole.embed_text(words), atol=1e-5, rtol=0)
    detector = source.regions.build()
    seen = detector(torch.stack([detector.load(image.path)[0] for image in ready.train_images]))
    torch.testing.assert_close(
        images.regions.boxes, seen.regions.boxes[:, : images.regions.boxes.shape[1]], atol=1e-4, rtol=0
    )
    assert ready.text_dim == 16


def test_phase_2_moves_the_last_two_layers_and_no_other(small, ready, scorer):
    before = ready.clip_head.state_dict()
    trained = train(ARMS["+graph+guidance"].make(small), ready, scorer).captioner
    after = trained.clip_head.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(before) - {"log_scale", "text_projection.weight"}
    set_trainable(trained, small.phase1)
    assert not any(parameter.requires_grad for parameter in trained.clip_head.parameters())
    assert not any(parameter.requires_grad for parameter in trained.decoder.parameters())


def test_a_grid_stands_in_where_there_is_no_detector(source, clip_folder, ready):
    grid = GridEncoderConfig(backbone=VitMapConfig(weights=str(clip_folder)), image_size=64)
    encoder = replace(source, regions=grid).build().image
    views = [torch.stack(column) for column in zip(*(encoder.load(i.path) for i in ready.dev_images), strict=True)]
    seen = encoder(*views)
    assert seen.pooled.shape == (3, encoder.pooled_dim) == (3, 17 * 32)
    assert seen.regions.features.shape == (3, encoder.regions_per_image, encoder.region_dim) == (3, 16, 32)
    assert (encoder.words, encoder.words_per_region) == ((), 0)


def test_a_width_that_is_not_clips_is_named(source):
    with pytest.raises(ValueError, match=r"dim must be 24, the joint width of .*clip.*; got 512"):
        source.build().fit_head(torch.zeros(2, 17 * 32), torch.zeros(2, 1, 16), 512)


def test_train_and_caption_on_the_command_line(command, small, photographs, runs, tmp_path):
    out, answer = runs / "paper", tmp_path / "captions.jsonl"
    flags = {
        "data.root": photographs,
        "cache": tmp_path / "cache",
        "encoders.clip.weights": small.encoders.clip.weights,
        "encoders.text.weights": small.encoders.text.weights,
        "encoders.regions.weights": small.encoders.regions.weights,
        "decoder.weights": small.decoder.weights,
        "dim": 24,
        "banks.min-count": 1,
        "graph.heads": 2,
        "train.steps": 2,
        "train.images-per-step": 3,
        "train.evaluations": 1,
        "search.max-new-tokens": 6,
    }
    done = command(
        "train", "paper", "--out", out, *(part for key, value in flags.items() for part in (f"--{key}", value))
    )
    assert done.status == 0, done.err
    checkpoint = out / "checkpoint"
    loaded = load_checkpoint(checkpoint)
    assert isinstance(loaded.captioner.clip_head, ClipTail)
    picture = sorted((photographs / "images").iterdir())[0]
    done = command("caption", checkpoint, picture, "--out", answer)
    assert done.status == 0, done.err
    assert json.loads(answer.read_text())["image"] == str(picture)
