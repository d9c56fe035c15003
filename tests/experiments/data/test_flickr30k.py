import json
from dataclasses import replace
from pathlib import Path

import pytest

from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.flickr30k import Flickr30kConfig


def names(config: Flickr30kConfig) -> dict[str, list[str]]:
    return {split: [image.name for image in images] for split, images in config.read().splits.items()}


def test_karpathys_splits(flickr30k: Path):
    data = Flickr30kConfig(root=flickr30k, sizes="any").read()
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert data.split("train")[0].path == flickr30k / "flickr30k-images" / "1000092795.jpg"
    assert data.split("train")[0].captions[1] == "The red dog on a beach"


def test_the_papers_splits_are_eight_to_two_and_anybody_draws_them_again(flickr30k: Path):
    config = Flickr30kConfig(root=flickr30k, splits="paper", sizes="any", dev_images=2)
    drawn = names(config)
    assert {split: len(own) for split, own in drawn.items()} == {"train": 6, "dev": 2, "test": 2}
    assert len({name for own in drawn.values() for name in own}) == 10
    # By SHA-256 of "0 name": neither a library's generator nor the order of the file has a say.
    assert drawn["test"] == ["1000092797.jpg", "1000092803.jpg"]
    token = flickr30k / "results_20130124.token"
    token.write_text("\n".join(reversed(token.read_text().splitlines())))
    again = names(config)
    assert {split: set(own) for split, own in again.items()} == {split: set(own) for split, own in drawn.items()}
    assert names(replace(config, seed=1)) != again


def test_sizes_are_those_that_are_published(flickr30k: Path):
    with pytest.raises(DataError, match=r"has train 6, dev 2, test 2; .*8:2, train 25,424, dev 2, test 6,357"):
        Flickr30kConfig(root=flickr30k, splits="paper", dev_images=2).read()
    with pytest.raises(DataError, match=r"Karpathy's splits, train 29,000, val 1,014, test 1,000.*--data\.sizes any"):
        Flickr30kConfig(root=flickr30k).read()


def test_kaggles_results_csv_is_the_same_with_its_well_known_broken_line(flickr30k: Path):
    config = Flickr30kConfig(root=flickr30k, splits="paper", sizes="any", dev_images=2)
    wanted = config.read()
    lines = ["image_name| comment_number| comment"]
    for line in (flickr30k / "results_20130124.token").read_text().splitlines():
        key, caption = line.split("\t")
        name, number = key.split("#")
        lines.append(f"{name}| {number}| {caption}")
    lines.append('1000092795.jpg| 3| "Dogs" run .')
    lines.append("1000092796.jpg| 4   A dog runs across the grass .")
    (flickr30k / "results.csv").write_text("\n".join(lines))
    (flickr30k / "results_20130124.token").unlink()
    data = config.read()
    assert data.skipped == {"empty caption": 1}
    found = {image.name: image.captions for image in data}
    assert found.pop("1000092795.jpg")[3] == '"Dogs" run .'
    assert found == {image.name: image.captions for image in wanted if image.name != "1000092795.jpg"}


def test_an_archive_that_unpacks_into_itself_is_read(flickr30k: Path):
    inner = flickr30k / "flickr30k_images"
    inner.mkdir()
    (flickr30k / "flickr30k-images").rename(inner / "flickr30k_images")
    data = Flickr30kConfig(root=flickr30k, sizes="any").read()
    assert data.split("train")[0].path.parent == inner / "flickr30k_images"


def test_what_is_missing_is_named(flickr30k: Path):
    (flickr30k / "dataset_flickr30k.json").unlink()
    with pytest.raises(DataError, match=r"has no dataset_flickr30k\.json.*--data\.captions.*--data\.splits"):
        Flickr30kConfig(root=flickr30k).read()
    with pytest.raises(DataError, match=r"has no mine\.txt"):
        Flickr30kConfig(root=flickr30k, splits="paper", captions="mine.txt").read()
    (flickr30k / "flickr30k-images").rename(flickr30k / "elsewhere")
    with pytest.raises(DataError, match=r"has no folder flickr30k-images or flickr30k_images.*--data\.images"):
        Flickr30kConfig(root=flickr30k, splits="paper", sizes="any").read()
    assert len(
        Flickr30kConfig(root=flickr30k, splits="paper", sizes="any", images="elsewhere", dev_images=2)
        .read()
        .split("train")
    )


def test_a_picture_without_sentences_is_counted(flickr30k: Path):
    file = flickr30k / "dataset_flickr30k.json"
    content = json.loads(file.read_text())
    content["images"][0]["sentences"] = []
    file.write_text(json.dumps(content))
    data = Flickr30kConfig(root=flickr30k, sizes="any").read()
    assert (len(data.split("train")), data.skipped) == (5, {"image without caption": 1})
