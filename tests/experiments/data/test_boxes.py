import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.data.boxes import BoxData, BoxedImage, align, read_box_file, write_box_file
from regioncap.experiments.data.dataset import DataError


def data(folder: Path) -> BoxData:
    images = tuple(
        BoxedImage(name=name, path=folder / name, width=40, height=30, boxes=boxes, labels=labels, attributes=said)
        for name, boxes, labels, said in (
            ("a.png", ((1.0, 2.0, 5.5, 30.0), (0.0, 0.0, 40.0, 30.0)), (1, 0), ((0, 1), ())),
            ("b.png", (), (), ()),
        )
    )
    for image in images:
        image.path.write_bytes(b"")
    return BoxData(
        classes=("cat", "dog"),
        images=images,
        types=("animals", "animals"),
        attributes=("red", "big"),
        attribute_groups=("colour", "size"),
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    wanted = data(tmp_path)
    write_box_file(wanted, tmp_path / "boxes.json")
    assert read_box_file(tmp_path / "boxes.json", tmp_path) == wanted
    assert wanted.count == 2
    assert len(wanted) == 2
    assert not (tmp_path / "boxes.json.partial").exists()


def test_attributes_and_types_are_optional(tmp_path: Path) -> None:
    wanted = data(tmp_path)
    plain = BoxData(
        classes=wanted.classes,
        images=tuple(replace(image, attributes=((),) * len(image.boxes)) for image in wanted.images),
    )
    write_box_file(plain, tmp_path / "boxes.json")
    assert read_box_file(tmp_path / "boxes.json", tmp_path) == plain


def test_attributes_of_other_makers_are_read(tmp_path: Path) -> None:
    """A word or a list for each group, and no list of all of them: as the scenes, and annotation tools, write them."""
    file = tmp_path / "boxes.json"
    write_box_file(data(tmp_path), file)
    content = json.loads(file.read_text())
    del content["attributes"]
    content["annotations"][0]["attributes"] = {"size": "big", "colour": ["red", "blue"]}
    file.write_text(json.dumps(content))
    read = read_box_file(file, tmp_path)
    assert list(zip(read.attribute_groups, read.attributes, strict=True)) == [
        ("colour", "blue"),
        ("colour", "red"),
        ("size", "big"),
    ]
    assert read.images[0].attributes == ((0, 1, 2), ())


def test_a_second_file_takes_the_words_of_the_first(tmp_path: Path) -> None:
    first = data(tmp_path)
    second = replace(
        first,
        classes=("dog", "cow", "cat"),
        attributes=("blue", "red"),
        attribute_groups=("colour", "colour"),
        images=(replace(first.images[0], labels=(0, 2), attributes=((0, 1), ())),),
        skipped={"crowd": 3},
    )
    aligned = align(second, first, "dev.json")
    assert (aligned.classes, aligned.attributes, aligned.skipped) == (first.classes, first.attributes, {"crowd": 3})
    assert aligned.images[0].labels == (1, 0)
    assert aligned.images[0].attributes == ((0,), ())
    cow = replace(second, images=(replace(second.images[0], labels=(0, 1)),))
    with pytest.raises(DataError, match=r"dev\.json has boxes of the class 'cow'.*they know cat, dog"):
        align(cow, first, "dev.json")


def changed(tmp_path: Path, **changes: Any) -> Path:
    """A good file with keys of its first annotation, or whole lists, replaced."""
    file = tmp_path / "boxes.json"
    write_box_file(data(tmp_path), file)
    content = json.loads(file.read_text())
    for key, value in changes.items():
        target = content if key in content else content["annotations"][0]
        target[key] = value
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bbox": [-5, 0, 9, 9]},
            r"annotation 0 .*: bbox .* leaves its picture a\.png of 40x30 pixels",
        ),
        ({"bbox": [0, 0, 9, 33]}, r"leaves its picture a\.png"),
        ({"bbox": [0, 0, -9, 3]}, r"annotation 0 is not in the COCO format: bbox .* is none"),
        ({"bbox": [0, 0, float("nan"), 3]}, r"is none"),
        ({"category_id": 9}, r"category_id 9 is none of the 2 categories"),
        ({"image_id": 9}, r"image_id 9 is not in the list of images"),
        ({"attributes": []}, r"colour 'red' is none of the 0 attributes"),
        ({"images": []}, r"image_id 1 is not in the list"),
        ({"images": [], "annotations": []}, r"lists no image"),
        ({"categories": None}, r"has no list 'categories'"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_annotation(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_box_file(changed(tmp_path, **changes), tmp_path)
    assert str(tmp_path / "boxes.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_boxes_without_area_and_crowds_are_counted(tmp_path: Path) -> None:
    read = read_box_file(changed(tmp_path, bbox=[3, 3, 0, 5]), tmp_path)
    assert read.skipped == {"box without area": 1}
    assert read.images[0].boxes == ((0.0, 0.0, 40.0, 30.0),)
    assert read_box_file(changed(tmp_path, iscrowd=1), tmp_path).skipped == {"crowd": 1}


def test_a_box_rounded_outwards_is_cut(tmp_path: Path) -> None:
    read = read_box_file(changed(tmp_path, bbox=[-0.5, 0, 41, 30]), tmp_path)
    assert read.images[0].boxes[0] == (0.0, 0.0, 40.0, 30.0)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    file = changed(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png is missing \(1 of the 2 pictures of .*boxes\.json are\)"):
        read_box_file(file, tmp_path)
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        read_box_file(file, tmp_path / "nowhere")
