import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from regioncap.experiments.data.coco import read_boxes, read_coco
from regioncap.experiments.data.dataset import DataError

CAPTIONS = {
    "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": " A dog. "},
        {"id": 2, "image_id": 7, "caption": "A cat."},
        {"id": 3, "image_id": 3, "caption": "One dog."},
    ],
}
INSTANCES = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
        {"id": 3, "file_name": "a.png", "width": 20, "height": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 4, "bbox": [5, 5, 10, 8], "area": 80, "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 4, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 1},
        {"id": 4, "image_id": 3, "category_id": 4, "bbox": [6, 6, 0, 8], "area": 0, "iscrowd": 0},
    ],
    "categories": [{"id": 90, "name": "kite"}, {"id": 4, "name": "dog"}],
}


def _folder(root: Path, split: str = "val", pictures: str = "images/val", **changes: Any) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for name, content in (("captions", CAPTIONS), ("instances", INSTANCES)):
        (root / "annotations" / f"{name}_{split}.json").write_text(json.dumps(content | changes.get(name, {})))
    (root / pictures).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (root / pictures / name).write_bytes(b"")
    return root


def test_captions_are_those_that_pycocotools_reads(tmp_path: Path) -> None:
    data = read_coco(_folder(tmp_path))
    coco = COCO(tmp_path / "annotations" / "captions_val.json")
    wanted = {
        coco.imgs[i]["file_name"]: [entry["caption"].strip() for entry in coco.imgToAnns[i]] for i in coco.getImgIds()
    }
    assert {image.name: list(image.captions) for image in data.split("val")} == wanted
    assert [image.path for image in data] == [tmp_path / "images" / "val" / name for name in ("b.png", "a.png")]


def test_boxes_are_those_that_pycocotools_reads(tmp_path: Path) -> None:
    data = read_boxes(_folder(tmp_path), "val")
    coco = COCO(tmp_path / "annotations" / "instances_val.json")
    assert data.classes == ("dog", "kite")
    for image in data.images:
        number = next(i for i, entry in coco.imgs.items() if entry["file_name"] == image.name)
        kept = [e for e in coco.loadAnns(coco.getAnnIds(imgIds=[number], iscrowd=False)) if e["area"] > 0]
        assert [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in image.boxes] == [tuple(e["bbox"]) for e in kept]
        assert [data.classes[n] for n in image.labels] == [coco.cats[e["category_id"]]["name"] for e in kept]
    assert [(image.width, image.height, len(image.boxes)) for image in data.images] == [(40, 30, 0), (20, 20, 2)]


def test_cocos_own_folders_are_read(tmp_path: Path) -> None:
    data = read_coco(_folder(tmp_path, split="val2017", pictures="val2017"))
    assert list(data.splits) == ["val2017"]
    assert data.split("val2017")[0].path == tmp_path / "val2017" / "b.png"


def test_splits_come_in_the_order_of_use(tmp_path: Path) -> None:
    for split in ("test", "val", "extra", "train"):
        _folder(tmp_path, split=split, pictures=f"images/{split}")
    assert list(read_coco(tmp_path).splits) == ["train", "val", "test", "extra"]


def test_what_does_not_fit_together_is_counted(tmp_path: Path) -> None:
    stray = [
        {"id": 4, "image_id": 99, "caption": "Of nothing."},
        {"id": 5, "image_id": 7, "caption": "  "},
        {"id": 6, "image_id": 8, "caption": "Of a lost file."},
    ]
    images = [{"id": 8, "file_name": "lost.png"}, {"id": 9, "file_name": "mute.png"}]
    changes = {"images": CAPTIONS["images"] + images, "annotations": CAPTIONS["annotations"] + stray}
    root = _folder(tmp_path, captions=changes)
    (root / "images" / "val" / "mute.png").write_bytes(b"")
    data = read_coco(root)
    assert [image.name for image in data] == ["b.png", "a.png"]
    assert data.skipped == {
        "caption of no listed image": 1,
        "empty caption": 1,
        "image file not there": 1,
        "image without caption": 1,
    }


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is no folder"):
        read_coco(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no folder annotations/"):
        read_coco(tmp_path)
    (tmp_path / "annotations").mkdir()
    with pytest.raises(DataError, match=r"has no captions_\*\.json"):
        read_coco(tmp_path)
    with pytest.raises(DataError, match=r"instances_val\.json is missing"):
        read_boxes(tmp_path, "val")


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    for name in ("a.png", "b.png"):
        (root / "images" / "val" / name).unlink()
    with pytest.raises(DataError, match=r"names 2 images, and none"):
        read_coco(root)
    (root / "images" / "val").rmdir()
    for read in (lambda: read_coco(root), lambda: read_boxes(root, "val")):
        with pytest.raises(DataError, match=r"no folder .*images/val"):
            read()


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"images": {}, "annotations": []}', "\ufeff"])
def test_a_file_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path)
    for name in ("captions", "instances"):
        (root / "annotations" / f"{name}_val.json").write_text(text)
    with pytest.raises(DataError, match=r"captions_val\.json"):
        read_coco(root)
    with pytest.raises(DataError, match=r"instances_val\.json"):
        read_boxes(root, "val")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    (root / "annotations" / "captions_val.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"captions_val\.json is no readable JSON"):
        read_coco(root)


@pytest.mark.parametrize("entry", [{}, {"image_id": 3}, {"image_id": 3, "caption": None}, "text", None])
def test_a_broken_caption_is_named(tmp_path: Path, entry: Any) -> None:
    root = _folder(tmp_path, captions={"annotations": [entry]})
    with pytest.raises(DataError, match=r"captions_val\.json is not in the COCO format"):
        read_coco(root)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"image_id": 3, "category_id": 5, "bbox": [0, 0, 1, 1]},
        {"image_id": 3, "category_id": 4, "bbox": [0, 0, 1]},
        {"image_id": 3, "category_id": 4, "bbox": "none"},
        None,
    ],
)
def test_a_broken_box_is_named(tmp_path: Path, entry: Any) -> None:
    root = _folder(tmp_path, instances={"annotations": [entry]})
    with pytest.raises(DataError, match=r"instances_val\.json.* is not in the COCO format"):
        read_boxes(root, "val")
