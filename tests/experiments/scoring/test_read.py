"""Files matched image by image."""

import pytest

from regioncap.experiments.scoring import CaptionFileError, read_captions


def test_every_format_of_references_meets_the_results(
    put, references, captions, coco_annotations, coco_results, karpathy
):
    results = put("results.json", coco_results)
    for name, content in (("coco.json", coco_annotations), ("dataset_coco.json", karpathy)):
        sets = read_captions(put(name, content), [results])
        assert {image: list(group) for image, group in sets.references.items()} == references
        assert sets.captions == (captions,)
    assert sets.pictures["b.jpg"] == "val2014/b.jpg"


def test_one_file_can_hold_both(put, references, captions, json_lines):
    sets = read_captions(None, [put("both.jsonl", json_lines)])
    assert {image: list(group) for image, group in sets.references.items()} == references
    assert sets.captions == (captions,)


def test_order_is_that_of_the_references(put, captions, coco_annotations, coco_results):
    references = put("r.json", coco_annotations)
    turned = read_captions(references, [put("a.json", coco_results[::-1]), put("b.json", coco_results)])
    assert [list(texts) for texts in turned.captions] == [list(captions)] * 2
    assert turned.captions[0] == turned.captions[1]


@pytest.mark.parametrize("name", ["{stem}.jpg", "folder/sub/{stem}.jpg", "C:\\pictures\\{stem}.jpg", "{stem}"])
def test_predictions_may_name_pictures_in_their_way(put, captions, coco_annotations, name):
    rows = [{"image": name.format(stem=image[0]), "caption": text} for image, text in captions.items()]
    assert read_captions(put("r.json", coco_annotations), [put("p.json", rows)]).captions == (captions,)


def test_id_comes_before_a_file_of_that_name(put):
    """Flickr's file names are numbers, as ids are."""
    images = [{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "1.jpg"}]
    texts = [{"image_id": image["id"], "caption": "x"} for image in images]
    references = put("r.json", {"images": images, "annotations": texts})
    by_id = put("id.json", [{"image_id": 1, "caption": "one"}, {"image_id": 2, "caption": "two"}])
    by_name = put("name.json", [{"image": "1.jpg", "caption": "two"}, {"image": "2", "caption": "one"}])
    sets = read_captions(references, [by_id, by_name])
    assert sets.captions[0] == sets.captions[1] == {"2.jpg": "one", "1.jpg": "two"}


def test_name_that_two_pictures_share_finds_neither(put):
    rows = [{"image": f"{folder}/a.jpg", "references": ["x"]} for folder in ("one", "two")]
    references = put("r.json", rows)
    with pytest.raises(CaptionFileError, match=r"image 'a\.jpg' is not in"):
        read_captions(references, [put("p.json", [{"image": "a.jpg", "caption": "x"}])])


def test_split_chooses_and_is_offered(put, coco_results, coco_annotations, karpathy):
    references, other = put("r.json", karpathy), put("val.json", [{"image_id": 70, "caption": "a cat"}])
    assert read_captions(references, [other], split="val").captions == ({"other.jpg": "a cat"},)
    with pytest.raises(CaptionFileError, match=r"'70' is in split 'val' .* not in 'test'; choose it with --split val"):
        read_captions(references, [other])
    with pytest.raises(CaptionFileError, match=r"no image in split 'dev'; --split can be val \(1\), test \(3\)"):
        read_captions(references, [other], split="dev")
    with pytest.raises(CaptionFileError, match="--split val is for Karpathy's JSON"):
        read_captions(put("coco.json", coco_annotations), [put("p.json", coco_results)], split="val")


def test_subset_takes_the_images_of_the_predictions(put, coco_annotations, coco_results):
    references = put("r.json", coco_annotations)
    a, b = put("a.json", coco_results[1:]), put("b.json", coco_results[:0:-1])
    sets = read_captions(references, [a, b], subset=True)
    assert list(sets.references) == list(sets.captions[0]) == list(sets.captions[1]) == ["b.jpg", "c.jpg"]
    with pytest.raises(CaptionFileError, match=r"'a\.jpg', which the first file of predictions lacks"):
        read_captions(references, [a, put("c.json", coco_results)], subset=True)
    with pytest.raises(CaptionFileError, match=r"c\.json has no caption for image 'b\.jpg'"):
        read_captions(references, [a, put("c.json", coco_results[2:])], subset=True)


def test_image_without_references_matters_only_if_it_is_scored(put, coco_annotations, coco_results):
    coco_annotations["annotations"] = coco_annotations["annotations"][2:]
    references = put("r.json", coco_annotations)
    with pytest.raises(CaptionFileError, match=r"image 'a\.jpg' has no references"):
        read_captions(references, [put("p.json", coco_results)])
    assert len(read_captions(references, [put("p.json", coco_results[1:])], subset=True).references) == 2


def test_captions_are_kept_as_they_are(put, coco_annotations, coco_results):
    coco_results[0]["caption"] = ""
    coco_results[1]["caption"] = ' "quoted", <b>\n</script>  '
    (texts,) = read_captions(put("r.json", coco_annotations), [put("p.json", coco_results)]).captions
    assert (texts["a.jpg"], texts["b.jpg"]) == ("", ' "quoted", <b>\n</script>  ')


@pytest.mark.parametrize("value", [None, 3, ["a dog"]])
def test_caption_that_is_no_text_is_named(put, coco_annotations, coco_results, value):
    coco_results[1]["caption"] = value
    with pytest.raises(CaptionFileError, match=r"entry 2 \(image 'b\.jpg'\): the caption must be a text"):
        read_captions(put("r.json", coco_annotations), [put("p.json", coco_results)])
    del coco_results[1]["caption"]
    with pytest.raises(CaptionFileError, match=r"entry 2 \(image 'b\.jpg'\) has no \"caption\""):
        read_captions(put("r.json", coco_annotations), [put("p.json", coco_results)])
