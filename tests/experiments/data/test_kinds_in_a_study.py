"""Every kind of data set through what a study makes of it, chosen as on the command line."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.commands.preset import chosen_data, starting_point
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import from_dict, to_dict
from regioncap.experiments.data.caption_form import CaptionFormConfig
from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.flickr30k import Flickr30kConfig
from regioncap.experiments.data.folder import FolderConfig
from regioncap.experiments.data.sources import DATA_KINDS, DataSource, ScenesSource, read_data
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.prepare import prepare
from regioncap.experiments.presets import PRESETS

NORMALISED = CaptionFormConfig(captions="normalised")
Make = Callable[[Path, Path, Path], DataSource]


def of_folder(coco: Path, flickr30k: Path, mine: Path) -> FolderConfig:
    captions = {f"{i}.jpg": ["A red dog on a beach, 3 of 4.", "The dog runs."] for i in range(20)}
    (mine / "captions.json").write_text(json.dumps(captions))
    return FolderConfig(root=mine, text=NORMALISED)


SOURCES: Sequence[Make] = (
    lambda coco, flickr30k, mine: CocoConfig(root=coco, sizes="any", text=NORMALISED),
    lambda coco, flickr30k, mine: CocoConfig(root=coco, splits="paper", sizes="any", dev_images=2, text=NORMALISED),
    lambda coco, flickr30k, mine: Flickr30kConfig(root=flickr30k, sizes="any", text=NORMALISED),
    of_folder,
)


@pytest.mark.parametrize("make", SOURCES)
def test_every_kind_prepares_a_study(
    tiny: Experiment, built: Encoders, coco: Path, flickr30k: Path, mine: Path, tmp_path: Path, make: Make
):
    source = make(coco, flickr30k, mine)
    experiment = replace(tiny, data=source)
    data = read_data(source, tmp_path / "cache")
    prepared = prepare(experiment, data, built, tmp_path / "cache")
    assert [image.name for image in prepared.train_images] == [image.name for image in data.split("train")]
    assert "<num>" in prepared.tokenizer.words
    assert "<num>" in prepared.tokenizer.decode(prepared.captions.tokens[0, 0])
    words = {*prepared.scene_bank.words, *prepared.detail_bank.words}
    assert {"beach", "dog"} <= words
    assert not {"num", "<num>"} & words
    assert any(caption != caption.lower() for image in prepared.dev_images for caption in image.captions)


def test_phrases_of_the_published_entities_make_the_banks(
    tiny: Experiment, built: Encoders, flickr30k: Path, tmp_path: Path
):
    experiment = replace(
        tiny,
        data=Flickr30kConfig(root=flickr30k, sizes="any"),
        banks=KeywordBanksConfig(source="phrases", min_count=2),
        keywords=replace(tiny.keywords, regions="phrases"),
    )
    data = read_data(experiment.data, tmp_path)
    prepared = prepare(experiment, data, built, tmp_path)
    assert "beach" in prepared.scene_bank.words
    assert "dog" in prepared.detail_bank.words
    assert (tmp_path / "entities").is_dir()


# The command line


def test_data_chooses_the_kind_for_every_preset():
    for preset in PRESETS:
        for kind, config in DATA_KINDS.items():
            name, experiment, rest = starting_point("train", [preset, "--data", kind, "--data.root", "x"])
            assert (name, rest) == (preset, ["--data.root", "x"])
            assert isinstance(experiment.data, config)
            assert from_dict(Experiment, json.loads(json.dumps(to_dict(experiment)))) == experiment
    assert chosen_data(["--data=coco", "a"]) == (CocoConfig(), ["a"])
    assert chosen_data(["a"]) == (None, ["a"])


@pytest.mark.parametrize("words", [["--data"], ["--data", "imagenet"], ["--data", "/some/folder"], ["--data="]])
def test_another_kind_is_refused_with_those_there_are(words: list[str]):
    with pytest.raises(ValueError, match=r"--data wants scenes, flickr8k, flickr30k, coco, folder, got .*--data\.root"):
        starting_point("train", ["paper", *words])


def test_presets_keep_the_kind_they_come_with():
    kinds = {preset: type(make().data) for preset, make in PRESETS.items()}
    assert kinds == {
        "scenes": ScenesSource,
        "photos": Flickr8kConfig,
        "photos-grid": Flickr8kConfig,
        "photos-best": Flickr8kConfig,
        "photos-best-detected": Flickr8kConfig,
        "photos-paper": Flickr8kConfig,
        "paper": Flickr8kConfig,
        "coco-paper": CocoConfig,
        "flickr30k-paper": Flickr30kConfig,
    }


@pytest.mark.parametrize(("preset", "images"), [("coco-paper", 82783 - 1000), ("flickr30k-paper", 25426 - 1000)])
def test_papers_presets_differ_from_paper_in_their_data_and_their_length_alone(preset: str, images: int):
    experiment, paper = PRESETS[preset](), PRESETS["paper"]()
    steps = 30 * (images // 64)
    assert experiment.train.steps == steps
    assert experiment.data.text.captions == "normalised"
    assert experiment.data.splits == "paper"
    same = replace(
        experiment, preset="paper", data=paper.data, train=replace(experiment.train, steps=paper.train.steps)
    )
    assert same == paper
