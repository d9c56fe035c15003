import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from regioncap.experiments.overlay import EDGES, LONGEST, NARROWEST, SHARPNESS, SHOWN, draw_overlay, place_labels, wrap

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8))


@pytest.fixture
def evidence(tmp_path: Path) -> dict:
    """Sixteen cells, each with a word and an edge to its right neighbour; the first is the most relevant."""
    side = np.linspace(0, 1, 5)
    boxes = np.array([[side[x], side[y], side[x + 1], side[y + 1]] for y in range(4) for x in range(4)])
    edges = np.zeros((16, 16))
    for i in (0, 4, 8):
        edges[i, i + 1] = edges[i + 1, i] = 0.5
    return {
        "caption": "two dogs run over wet sand",
        "boxes": boxes,
        "edges": edges,
        "words": [f"word{i}" for i in range(16)],
        "relevance": np.arange(16, 0, -1.0),
        "scene_words": [("beach", 0.5), ("sea", 0.25), ("sun", 0.0)],
        "path": tmp_path / "pictures" / "dogs.png",
    }


def changed(evidence: dict, **fields: object) -> np.ndarray:
    """Where the picture is another one when these fields are."""
    before = np.asarray(draw_overlay(PHOTO, **evidence), dtype=int)
    after = np.asarray(draw_overlay(PHOTO, **(evidence | fields)), dtype=int)
    height = min(len(before), len(after))
    return np.abs(before[:height] - after[:height]).max(axis=2) > 8


def replaced(items: list, index: int, item: object) -> list:
    return [*items[:index], item, *items[index + 1 :]]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_file_is_the_picture(evidence, suffix):
    path = evidence["path"].with_suffix(f".{suffix}")
    picture = draw_overlay(PHOTO, **(evidence | {"path": path}))
    saved = Image.open(path)
    assert saved.size == picture.size
    assert np.abs(np.asarray(saved, dtype=int) - np.asarray(picture, dtype=int)).mean() < (1 if suffix == "png" else 12)
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_that_cannot_be_written_leaves_nothing(evidence):
    with pytest.raises(ValueError, match="unknown file extension"):
        draw_overlay(PHOTO, **(evidence | {"path": evidence["path"].with_suffix(".xyz")}))
    assert not list(evidence["path"].parent.iterdir())


@pytest.mark.parametrize("size", [(200, 150), (150, 200), (30, 400), (1600, 900)])
def test_the_photograph_is_enlarged_in_its_shape(evidence, size):
    picture = draw_overlay(PHOTO.resize(size), **evidence)
    wide, tall = (round(LONGEST * side / max(size)) for side in size)
    assert picture.width == wide + 2 * (max(0, NARROWEST - wide) // 2)
    assert picture.height > tall


def test_nothing_to_tell_leaves_the_photograph(evidence):
    nothing = {"boxes": np.zeros((0, 4)), "edges": np.zeros((0, 0)), "words": [], "relevance": np.zeros(0)}
    picture = draw_overlay(PHOTO, **(evidence | nothing | {"scene_words": [], "caption": ""}))
    photo = PHOTO.resize((800, 600), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(picture)[:600], np.asarray(photo))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_kind_of_image_will_do(evidence, mode):
    assert draw_overlay(PHOTO.convert(mode), **evidence).mode == "RGB"


def test_caption_and_scene_words_stand_below(evidence):
    for fields in ({"caption": "a cat"}, {"scene_words": [("beach", 0.5), ("sea", 0.4), ("sun", 0.0)]}):
        rows = np.nonzero(changed(evidence, **fields).any(axis=1))[0]
        assert rows.size > 0
        assert rows.min() >= 600


def test_a_word_stands_in_its_region(evidence):
    rows, columns = np.nonzero(changed(evidence, words=replaced(evidence["words"], 6, "zebra")))
    assert rows.size > 0
    assert 150 <= rows.min() <= rows.max() < 300
    assert 400 <= columns.min() <= columns.max() < 600


def test_only_the_most_relevant_regions_speak(evidence):
    words = evidence["words"]
    assert changed(evidence, words=replaced(words, SHOWN - 1, "zebra")).any()
    assert not changed(evidence, words=replaced(words, SHOWN, "zebra")).any()
    assert changed(evidence, words=replaced(words, SHOWN, "zebra"), relevance=evidence["relevance"][::-1].copy()).any()


def test_of_many_regions_those_that_tell_nothing_stay_pale(evidence):
    mute = evidence | {"words": [""] * 16, "edges": np.eye(16)}
    assert not changed(mute, relevance=evidence["relevance"][::-1].copy()).any()
    assert changed(mute | {"words": replaced([""] * 16, 15, "zebra")}, words=[""] * 16).any()
    few = {name: mute[name][:SHOWN] for name in ("boxes", "words", "relevance")} | {"edges": np.eye(SHOWN)}
    assert changed(mute | few, relevance=few["relevance"][::-1].copy()).any()


def test_an_empty_word_is_no_label(evidence):
    assert changed(evidence, words=replaced(evidence["words"], 0, "")).any()


def test_edges_join_the_regions_and_self_loops_do_not_show(evidence):
    loops = evidence["edges"] + np.eye(16)
    assert not changed(evidence, edges=loops).any()
    more = evidence["edges"].copy()
    more[0, 6] = 0.5
    assert changed(evidence, edges=more).any()
    assert not changed(evidence | {"edges": more}, edges=more + more.T - evidence["edges"]).any()


def test_a_stronger_edge_is_a_broader_line(evidence):
    plain = Image.new("RGB", (200, 150), (120, 40, 40))

    def white(weight: float) -> int:
        edges = np.zeros((16, 16))
        edges[4, 5], edges[9, 11] = 1, weight
        cells = np.asarray(draw_overlay(plain, **(evidence | {"edges": edges})))[310:450, 200:]
        return int((cells.min(axis=2) > 100).sum())

    assert white(0.0) < white(0.2) < white(1.0)


def test_no_more_edges_than_can_be_read(evidence):
    everywhere = np.triu(np.linspace(1, 2, 256).reshape(16, 16), 1)
    floor = np.sort(everywhere[:SHOWN][everywhere[:SHOWN] > 0])[-EDGES]
    assert not changed(evidence | {"edges": everywhere}, edges=np.where(everywhere < floor, 0, everywhere)).any()
    assert changed(evidence | {"edges": everywhere}, edges=np.where(everywhere <= floor, 0, everywhere)).any()


def test_every_region_needs_its_word(evidence):
    with pytest.raises(ValueError, match="15 words for 16 boxes"):
        draw_overlay(PHOTO, **(evidence | {"words": evidence["words"][:15]}))


def test_boxes_without_area_do_no_harm(evidence):
    boxes = evidence["boxes"].copy()
    boxes[0] = 0.5
    boxes[1] = [1, 1, 1, 1]
    draw_overlay(PHOTO, **(evidence | {"boxes": boxes}))


def test_a_picture_takes_less_than_half_a_second(evidence):
    start = time.process_time()
    for _ in range(3):
        draw_overlay(PHOTO, **evidence)
    assert (time.process_time() - start) / 3 < 0.5


fractions = st.floats(0, 1, allow_nan=False)


@given(st.lists(st.tuples(fractions, fractions, fractions, fractions, st.floats(10, 160)), max_size=14))
@settings(max_examples=60, deadline=None)
def test_labels_never_overlap_nor_leave_the_picture(drawn):
    boxes = [(min(a, c) * 800, min(b, d) * 600, max(a, c) * 800, max(b, d) * 600) for a, b, c, d, _ in drawn]
    spots = place_labels(boxes, [(width, 24) for *_, width in drawn], (800, 600))
    assert len(spots) == len(boxes)
    assert all(spot is not None for spot in spots[:1])
    found = [spot for spot in spots if spot is not None]
    for i, (x0, y0, x1, y1) in enumerate(found):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 800
        assert y1 <= 600
        for a0, b0, a1, b1 in found[:i]:
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def test_a_label_that_finds_no_place_is_left_out():
    assert place_labels([(0, 0, 50, 50)] * 40, [(90, 24)] * 40, (100, 100)).count(None) >= 36
    assert place_labels([(0, 0, 50, 50)], [(300, 24)], (100, 100)) == [None]


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=60), max_size=30))
@settings(max_examples=60, deadline=None)
def test_lines_fit_and_keep_every_letter(words):
    lines = wrap(" ".join(words), 25, 300)
    font = ImageFont.load_default(25 * SHARPNESS)
    assert all(font.getlength(line) <= 300 * SHARPNESS for line in lines)
    assert "".join(lines).replace(" ", "") == "".join(words)


def test_lines_break_between_words():
    text = "a man in a red jacket stands on top of a snowy mountain and looks down at the valley"
    assert " ".join(wrap(text, 25, 300)) == text
