"""Which format a file has, and what it says."""

import json

import pytest

from regioncap.experiments.scoring.formats import CaptionFileError, annotated_images, load, rows, training_captions


def test_formats_are_told_apart_by_what_they_hold(put, coco_annotations, coco_results, karpathy, json_lines):
    files = {
        "annotations": put("annotations.json", coco_annotations),
        "karpathy": put("dataset_coco.json", karpathy),
        "captions": put("results.json", coco_results),
        "captions and references": put("both.jsonl", json_lines),
        "references": put("references.jsonl", '{"image": "a", "references": ["x"]}\n'),
    }
    assert {kind: load(path).kind for kind, path in files.items()} == {kind: kind for kind in files}
    assert [load(path).has_references for path in files.values()] == [True, True, False, True, True]
    assert [load(path).has_captions for path in files.values()] == [False, False, True, True, False]


def test_references_of_every_format_are_the_same(put, references, coco_annotations, karpathy, json_lines):
    for name, content in (("coco", coco_annotations), ("karpathy", karpathy), ("lines", json_lines)):
        images = [image for image in annotated_images(load(put(name, content))) if image.split in (None, "test")]
        assert {image.name: list(image.references) for image in images} == references


def test_ids_and_pictures(put, coco_annotations, karpathy):
    coco = list(annotated_images(load(put("coco", coco_annotations))))
    assert [(image.id, image.picture) for image in coco] == [("7", "a.jpg"), ("8", "b.jpg"), ("9", "c.jpg")]
    split = list(annotated_images(load(put("karpathy", karpathy))))
    assert [(image.id, image.picture) for image in split[1:2]] == [("7", "val2014/a.jpg")]
    for image in karpathy["images"]:
        del image["cocoid"]
    assert list(annotated_images(load(put("karpathy", karpathy))))[1].id == "1007"


def test_coco_images_go_by_id_where_no_file_name_is_told(put, coco_annotations):
    del coco_annotations["images"]
    assert [image.name for image in annotated_images(load(put("coco", coco_annotations)))] == ["7", "8", "9"]


def test_tokens_are_not_kept(put, karpathy):
    content = load(put("karpathy", karpathy)).content
    assert "tokens" not in content["images"][1]["sentences"][0]
    assert "raw" in content["images"][1]["sentences"][0]


def test_lines_may_be_blank_end_in_crlf_or_be_one(put):
    text = '\ufeff{"image": "ä", "caption": "x"}\r\n\r\n{"image": 5, "caption": "y\\u2028z"}\r\n'
    found = list(rows(load(put("lines", text))))
    assert [(row.image, row.content["caption"]) for row in found] == [("ä", "x"), ("5", "y\u2028z")]
    assert load(put("one", '{"image": "a", "caption": "x"}')).kind == "captions"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("is empty", "no captions at all")),
        ("[]", ("no captions at all",)),
        ('[{"image_id": 1, "caption": "a d', ("no whole JSON", "line 1", "cut off")),
        ('{"image": "a", "caption": "x"}\n{"image": "b", "cap', ("no whole JSON", "line 2", "cut off")),
        ("a dog\n", ("no whole JSON",)),
        ("3", ("in no format of captions", "COCO")),
        ('{"a.jpg": "a dog"}', ("in no format of captions",)),
        ('["a dog"]', ('neither "caption" nor "references"',)),
        ('{"images": [{"id": 1}]}', ("images without captions",)),
        ('{"annotations": [{"image_id": 1, "bbox": []}]}', ("without captions, such as boxes", "captions_*.json")),
    ],
)
def test_file_that_cannot_be_read_is_named(put, text, parts):
    path = put("file.json", text)
    with pytest.raises(CaptionFileError) as error:
        load(path)
    for part in (str(path), *parts):
        assert part in str(error.value)


def test_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(CaptionFileError, match="does not exist"):
        load(tmp_path / "none.json")
    with pytest.raises(CaptionFileError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes('["Käse"]'.encode("latin-1"))
    with pytest.raises(CaptionFileError, match="no UTF-8 text"):
        load(tmp_path / "latin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": [{"caption": "x"}]}, "lacks 'image_id'"),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "x"}]}, "image 2, which is not among"),
        ({"annotations": [{"image_id": 2, "caption": None}]}, "annotation 1: the caption must be a text, got null"),
        ({"annotations": [{"image_id": 2, "caption": "a \ud83d"}]}, "the caption is no valid Unicode"),
        ({"annotations": [5]}, "an entry is not as wanted"),
        ({"images": [{"split": "test", "sentences": []}]}, 'neither "filename" nor'),
        ({"images": [{"filename": "a", "sentences": []}]}, "lacks 'split'"),
        ({"images": [{"filename": "a", "split": "test", "sentences": [{}]}]}, "lacks 'raw'"),
        ({"images": [{"filename": "a", "split": "test", "sentences": ["x"]}]}, "not as wanted"),
        ([{"image": "a", "references": "one text"}], "must be a list of captions"),
        ([{"image": "a", "references": [3]}], "a reference must be a text, got 3"),
        ([{"image": "a", "references": ["x"]}, {"references": ["x"]}], "entry 2 names no image"),
        ([{"image": "a", "references": ["x"]}, "text"], "entry 2 names no image"),
    ],
)
def test_entry_of_references_that_is_not_as_wanted(put, content, message):
    with pytest.raises(CaptionFileError) as error:
        list(annotated_images(load(put("file.json", json.dumps(content)))))
    assert message in str(error.value)


def test_training_captions_are_those_of_train_and_restval(put, karpathy, coco_annotations):
    assert len(training_captions(put("coco.json", coco_annotations))) == 6
    with pytest.raises(CaptionFileError, match="no captions of images to train on"):
        training_captions(put("karpathy.json", karpathy))
    karpathy["images"][0]["split"], karpathy["images"][1]["split"] = "restval", "train"
    found = training_captions(put("karpathy.json", karpathy))
    assert found == ["A cat", "A dog runs on the beach.", "A brown dog on sand"]
