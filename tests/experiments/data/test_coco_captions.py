import json
from dataclasses import replace
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from regioncap.experiments.data import coco_captions
from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.dataset import DataError


def sizes(config: CocoConfig) -> dict[str, int]:
    return {split: len(images) for split, images in config.read().splits.items()}


def test_karpathys_restval_is_trained_on(coco: Path):
    data = CocoConfig(root=coco, sizes="any").read()
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 9, "val": 1, "test": 2}
    last = data.split("train")[-1]
    assert last.path == coco / "val2014" / "COCO_val2014_000000000008.jpg"
    assert all(image.path.is_file() and len(image.captions) == 3 for image in data)
    assert not data.skipped


def test_captions_of_the_papers_splits_are_those_that_pycocotools_reads(coco: Path):
    data = CocoConfig(root=coco, splits="paper", sizes="any", dev_images=2).read()
    assert list(data.splits) == ["train", "dev", "test"]
    for parts, file in ((("train", "dev"), "train2014"), (("test",), "val2014")):
        theirs = COCO(coco / "annotations" / f"captions_{file}.json")
        wanted = {e["file_name"]: [a["caption"] for a in theirs.imgToAnns[i]] for i, e in theirs.imgs.items()}
        assert {image.name: list(image.captions) for part in parts for image in data.split(part)} == wanted


def test_dev_is_drawn_from_training_images_by_the_seed_alone(coco: Path):
    config = CocoConfig(root=coco, splits="paper", sizes="any", dev_images=3)
    first, second = config.read(), config.read()
    assert first == second
    assert len(first.split("dev")) == 3
    others = {tuple(image.name for image in replace(config, seed=seed).read().split("dev")) for seed in range(5)}
    assert len(others) > 1
    assert list(replace(config, dev_images=0).read().splits) == ["train", "test"]
    with pytest.raises(ValueError, match=r"data\.dev-images must leave some of the 7 training images, got 7"):
        replace(config, dev_images=7).read()
    with pytest.raises(ValueError, match=r"data\.dev-images must be at least 0, got -1"):
        CocoConfig(dev_images=-1)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ("karpathy", r"has train 9, val 1, test 2; .*COCO in Karpathy's splits, train 113,287, val 5,000, test 5,000"),
        ("paper", r"has train 5, dev 2, test 5; .*COCO 2014, train 82,781, dev 2, test 40,504"),
    ],
)
def test_a_part_of_coco_is_not_taken_for_the_whole(coco: Path, splits: str, said: str):
    with pytest.raises(DataError, match=rf"{said}.*--data\.sizes any"):
        CocoConfig(root=coco, splits=splits, dev_images=2).read()


def test_2017_is_read_too(coco: Path):
    for part in ("train", "val"):
        (coco / f"{part}2014").rename(coco / f"{part}2017")
        old = coco / "annotations" / f"captions_{part}2014.json"
        old.rename(old.with_name(f"captions_{part}2017.json"))
    config = CocoConfig(root=coco, splits="2017", sizes="any")
    assert sizes(config) == {"train": 7, "val": 5}
    with pytest.raises(DataError, match=r"captions_train2014\.json is missing"):
        replace(config, splits="paper").read()


def test_a_file_that_is_missing_is_counted_in_a_part_and_refused_in_the_whole(coco: Path, monkeypatch):
    (coco / "train2014" / "COCO_train2014_000000000002.jpg").unlink()
    config = CocoConfig(root=coco, sizes="any")
    data = config.read()
    assert (len(data.split("train")), data.skipped) == (8, {"image file not there": 1})
    monkeypatch.setitem(coco_captions._OFFICIAL, "karpathy", {"train": 9, "val": 1, "test": 2})
    with pytest.raises(
        DataError, match=r"000000000002\.jpg is missing \(1 of the 9 images of the train split of COCO in"
    ):
        replace(config, sizes="official").read()


def test_pictures_may_lie_below_images_and_karpathys_file_in_annotations(coco: Path):
    (coco / "images").mkdir()
    for part in ("train2014", "val2014"):
        (coco / part).rename(coco / "images" / part)
    (coco / "dataset_coco.json").rename(coco / "annotations" / "mine.json")
    with pytest.raises(DataError, match=r"dataset_coco\.json is missing.*--data\.karpathy"):
        CocoConfig(root=coco, sizes="any").read()
    assert sizes(CocoConfig(root=coco, sizes="any", karpathy="mine.json")) == {"train": 9, "val": 1, "test": 2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda image: image.update(split="training"), r"image 0: split 'training' is none of train, restval, val"),
        (lambda image: image.pop("filename"), r"image 0: not as wanted \(KeyError: 'filename'\)"),
        (lambda image: image.update(sentences=[{"tokens": []}]), r"image 0: not as wanted \(KeyError: 'raw'\)"),
    ],
)
def test_a_broken_entry_of_karpathys_file_is_named(coco: Path, change, said: str):
    file = coco / "dataset_coco.json"
    content = json.loads(file.read_text())
    change(content["images"][0])
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"dataset_coco\.json, {said}"):
        CocoConfig(root=coco, sizes="any").read()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": []}', '{"images": {}}'])
def test_another_form_of_karpathys_file_is_named(coco: Path, text: str):
    (coco / "dataset_coco.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset_coco\.json"):
        CocoConfig(root=coco, sizes="any").read()


def test_a_name_in_two_splits_is_refused(coco: Path):
    file = coco / "dataset_coco.json"
    content = json.loads(file.read_text())
    content["images"].append({**content["images"][0], "split": "test"})
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"'COCO_train2014_000000000000\.jpg' is in its train split and in its test"):
        CocoConfig(root=coco, sizes="any").read()


def test_the_folder_must_be_given_and_there(tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.root is not given: name COCO's folder.*--data\.root DIR"):
        CocoConfig().read()
    with pytest.raises(DataError, match="does not exist"):
        CocoConfig(root=tmp_path / "no").read()
