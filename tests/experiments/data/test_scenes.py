import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageChops

from regioncap.experiments.data.coco import read_boxes
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.scenes import KINDS, Scene, ScenesConfig, make_scenes, scenes_of
from regioncap.experiments.data.scenes.backdrop import draw_scene
from regioncap.experiments.data.scenes.check import tables
from regioncap.experiments.data.scenes.generate import captions_of
from regioncap.experiments.data.scenes.sketch import SCALE, paint
from regioncap.experiments.data.scenes.world import ACTORS, LIGHTS, PATTERNS, PLACES, PROPS, RELATIONS, Thing

SMALL = ScenesConfig(train=8, val=3, test=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(SMALL, root)
    return root


@pytest.fixture(scope="module")
def many() -> tuple[Scene, ...]:
    return tuple(scenes_of(ScenesConfig(val=180), "val"))


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_two_workers_write_the_same_bytes_as_one(made: Path, tmp_path: Path) -> None:
    make_scenes(SMALL, tmp_path / "again", workers=2)
    assert _bytes(tmp_path / "again") == _bytes(made)


def test_data_has_all_splits_and_five_captions(made: Path) -> None:
    data = make_scenes(SMALL, made)
    assert {split: len(images) for split, images in data.splits.items()} == {"train": 8, "val": 3, "test": 2}
    assert data.skipped == {}
    names = [image.name for image in data]
    assert len(set(names)) == 13
    for image in data:
        assert len(image.captions) == 5
        with Image.open(image.path) as picture:
            assert (picture.size, picture.mode) == ((224, 224), "RGB")


def test_what_is_there_is_not_made_again(made: Path) -> None:
    def report(done: int, total: int) -> None:
        raise AssertionError("made again")

    make_scenes(SMALL, made, report=report)


def test_a_killed_generation_leaves_nothing(tmp_path: Path) -> None:
    seen = []

    def killed(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scenes(SMALL, tmp_path / "scenes", report=killed)
    assert seen == [(n, 13) for n in range(1, 10)]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "scenes"
    root.mkdir(parents=True)
    assert len(make_scenes(ScenesConfig(train=1, val=1, test=1), root).split("val")) == 1


@pytest.mark.parametrize(
    "change", [{"train": 9}, {"val": 4}, {"test": 3}, {"seed": 1}, {"fewest_things": 8}, {"most_things": 12}]
)
def test_other_scenes_are_refused_and_left_alone(made: Path, change: dict[str, int]) -> None:
    before = _bytes(made)
    with pytest.raises(DataError, match="delete the folder"):
        make_scenes(replace(SMALL, **change), made)
    assert _bytes(made) == before


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"has no manifest\.json"):
        make_scenes(SMALL, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_broken_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest\.json"):
        make_scenes(SMALL, tmp_path)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scenes").write_text("no folder")
    with pytest.raises(DataError, match="scenes"):
        make_scenes(SMALL, tmp_path / "scenes")


@pytest.mark.parametrize(
    "change", [{"train": 0}, {"val": 0}, {"test": -1}, {"fewest_things": 5}, {"most_things": 15}, {"most_things": 8}]
)
def test_a_config_that_cannot_be_made_says_so(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="scenes"):
        ScenesConfig(**change)


def test_every_field_changes_the_scenes() -> None:
    def all_scenes(config: ScenesConfig) -> list[Scene]:
        return [scene for split in ("train", "val", "test") for scene in scenes_of(config, split)]

    base = all_scenes(SMALL)
    assert base == all_scenes(replace(SMALL))
    for change in ({"train": 9}, {"val": 4}, {"test": 3}, {"seed": 1}, {"fewest_things": 13}, {"most_things": 9}):
        assert all_scenes(replace(SMALL, **change)) != base
    assert {len(scene.things) for scene in all_scenes(ScenesConfig(train=60, val=1, test=1))} == {9, 10, 11, 12, 13}


def test_a_longer_split_begins_with_the_shorter_one() -> None:
    assert list(scenes_of(ScenesConfig(val=9), "val"))[:3] == list(scenes_of(SMALL, "val"))


def test_splits_share_no_scene() -> None:
    config = ScenesConfig(train=30, val=30, test=30)
    seen = Counter(repr(s.things) for split in ("train", "val", "test") for s in scenes_of(config, split))
    assert len(seen) == 90


def test_boxes_on_disk_are_those_of_the_scene(made: Path) -> None:
    data = read_boxes(made, "val")
    assert data.classes == KINDS
    for image, scene in zip(data.images, scenes_of(SMALL, "val"), strict=True):
        assert [KINDS[label] for label in image.labels] == [thing.kind for thing in scene.things]
        said = [{data.attributes[x] for x in own} for own in image.attributes]
        assert said == [{thing.colour, thing.pattern} for thing in scene.things]
        np.testing.assert_allclose(image.boxes, [thing.box for thing in scene.things], atol=0.011)


def test_facts_on_disk_name_the_pair_by_annotation(made: Path) -> None:
    content = json.loads((made / "annotations" / "instances_val.json").read_text())
    things = {entry["id"]: entry for entry in content["annotations"]}
    for entry, scene in zip(content["images"], scenes_of(SMALL, "val"), strict=True):
        assert (entry["place"], entry["light"]) == (scene.place, scene.light)
        subject, landmark = things[entry["main"]["subject"]], things[entry["main"]["landmark"]]
        assert subject["image_id"] == landmark["image_id"] == entry["id"]
        assert KINDS[subject["category_id"] - 1] == scene.things[scene.main.subject].kind
        wanted = scene.things[scene.main.landmark]
        assert landmark["attributes"] == {"colour": wanted.colour, "pattern": wanted.pattern}
        assert entry["main"]["relation"] == scene.main.relation


def _rule(scene: Scene) -> tuple[int, str, int]:
    """The viewer's rule again, from boxes alone: most salient actor, most salient prop of its four nearest."""
    boxes = np.array([thing.box for thing in scene.things])
    acts = np.array([thing.kind in ("dog", "cat", "bird", "robot", "man") for thing in scene.things])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    salience = sides.prod(1) * (0.6 + 0.8 * boxes[:, 3] / 224)
    subject = int(np.where(acts, salience, 0).argmax())
    far = np.linalg.norm(centres - centres[subject], axis=1)
    near = [i for i in far.argsort() if i != subject][:4]
    landmark = int(max((i for i in near if not acts[i]), key=lambda i: salience[i]))
    dx, dy = centres[subject] - centres[landmark]
    shared = np.minimum(boxes[subject, 2:], boxes[landmark, 2:]) - np.maximum(boxes[subject, :2], boxes[landmark, :2])
    if (shared > 0).all():
        return subject, "front" if boxes[subject, 3] > boxes[landmark, 3] else "behind", landmark
    if abs(dx) > abs(dy):
        return subject, "left" if dx < 0 else "right", landmark
    return subject, "above" if dy < 0 else "below", landmark


def test_the_main_pair_follows_the_rule(many: tuple[Scene, ...]) -> None:
    for scene in many:
        assert (scene.main.subject, scene.main.relation, scene.main.landmark) == _rule(scene)


def test_directions_are_no_diagonals(many: tuple[Scene, ...]) -> None:
    for scene in many:
        for pair in filter(None, (scene.main, scene.second)):
            a, b = (np.array(scene.things[i].box) for i in (pair.subject, pair.landmark))
            dx, dy = np.abs((a[:2] + a[2:] - b[:2] - b[2:]) / 2)
            if pair.relation in ("left", "right"):
                assert dx >= 1.7 * dy
            elif pair.relation in ("above", "below"):
                assert dy >= 1.7 * dx
            else:
                assert (pair.subject > pair.landmark) == (pair.relation == "front")


def test_things_stand_inside_the_picture_and_on_the_ground(many: tuple[Scene, ...]) -> None:
    boxes = np.array([thing.box for scene in many for thing in scene.things])
    assert boxes.min() >= 2.99
    assert boxes.max() <= 221.01
    assert boxes[:, 3].min() >= 55.99


def test_plans_are_balanced(many: tuple[Scene, ...]) -> None:
    def spread(found: list[str], kinds: int) -> None:
        counts = Counter(found)
        assert len(counts) == kinds
        assert max(counts.values()) < 1.7 * len(many) / kinds

    spread([scene.main.relation for scene in many], len(RELATIONS))
    spread([scene.place for scene in many], len(PLACES))
    spread([scene.light for scene in many], len(LIGHTS))
    spread([scene.things[scene.main.subject].kind for scene in many], len(ACTORS))
    spread([scene.things[scene.main.landmark].kind for scene in many], len(PROPS))


NAMES = {"dog": "dog|puppy", "cat": "cat|kitten", "man": "man|person", "box": "box|crate", "house": "house|cottage"}
SAID = {
    "left": "left of|on the left side of",
    "right": "right of|on the right side of",
    "above": "above|higher than",
    "below": "below|underneath",
    "front": "in front of|hiding",
    "behind": "behind|hidden by",
}
OTHER_WAY = {"left": "right", "right": "left", "above": "below", "below": "above", "front": "behind", "behind": "front"}


def test_every_caption_tells_the_directed_relation() -> None:
    config = ScenesConfig(val=100)
    ways: Counter[str] = Counter()
    for scene, five in zip(scenes_of(config, "val"), captions_of(config, "val"), strict=True):
        subject, landmark = (scene.things[i].kind for i in (scene.main.subject, scene.main.landmark))
        s, m = NAMES.get(subject, subject), NAMES.get(landmark, landmark)
        right, inverse = SAID[scene.main.relation], SAID[OTHER_WAY[scene.main.relation]]
        more = "( to the| just| right| partly)?"
        forms = {
            "subject first": rf"\b({s})( is| stands| waits)?{more} ({right}) (a|an|the)\b.*({m})\b",
            "turned": rf"^({right}|(to the|just|right|partly) ({right})) the .*({m}) there is an? .*({s})\b",
            "landmark first": rf"^an? .*\b({m}){more} ({inverse}) an? .*\b({s})\b",
        }
        for text in five:
            told = [name for name, form in forms.items() if re.search(form, text)]
            assert told, (scene.main, subject, landmark, text)
            ways[told[0]] += 1
    assert min(ways[name] for name in ("subject first", "turned", "landmark first")) > 20
    assert ways["subject first"] > 0.7 * sum(ways.values())


def test_captions_are_plain_words_of_fitting_length() -> None:
    config = ScenesConfig(val=60)
    for five in captions_of(config, "val"):
        for text in five:
            assert re.fullmatch(r"[a-z]+( [a-z]+)*", text)
            assert 8 <= len(text.split()) <= 18
            assert not re.search(r"\ba [aeio]|\ban [^aeio]", text)


def test_captions_say_only_attributes_that_are_there() -> None:
    config = ScenesConfig(val=60)
    words = {"striped": "striped", "stripy": "striped", "dotted": "dotted", "spotted": "dotted", "plain": "plain"}
    for scene, five in zip(scenes_of(config, "val"), captions_of(config, "val"), strict=True):
        pairs = [pair for pair in (scene.main, scene.second) if pair is not None]
        shown = [scene.things[i] for pair in pairs for i in (pair.subject, pair.landmark)]
        patterns = {words[word] for text in five for word in text.split() if word in words}
        assert patterns <= {thing.pattern for thing in shown}
    assert set(words.values()) == set(PATTERNS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_drawing_fills_its_box(kind: str, mirrored: bool) -> None:
    aspect = (ACTORS | PROPS)[kind]
    box = (30.0, 40.0, 30 + 50 * aspect**0.5, 40 + 50 / aspect**0.5)
    canvas = Image.new("RGB", (224 * SCALE, 224 * SCALE), (9, 9, 9))
    blank = canvas.copy()
    paint(canvas, Thing(kind=kind, colour="red", pattern="dotted", box=box, mirrored=mirrored))
    found = ImageChops.difference(canvas, blank).getbbox()
    assert found is not None
    np.testing.assert_allclose(np.array(found) / SCALE, box, atol=2.0)


@pytest.mark.parametrize("field", ["colour", "pattern"])
def test_an_attribute_shows_inside_its_box_alone(field: str) -> None:
    scene = next(scenes_of(SMALL, "val"))
    scene = replace(scene, light="sunny")
    thing = scene.things[-1]
    other = replace(thing, **{field: {"colour": "blue", "pattern": "striped"}[field]})
    thing = replace(thing, **{field: {"colour": "red", "pattern": "plain"}[field]})
    pictures = [
        np.asarray(draw_scene(replace(scene, things=(*scene.things[:-1], shown)), Random(0)), dtype=int)
        for shown in (thing, other)
    ]
    rows, columns = np.nonzero(np.abs(pictures[0] - pictures[1]).sum(-1))
    x0, y0, x1, y1 = thing.box
    assert len(rows) > 0.1 * (x1 - x0) * (y1 - y0)
    assert columns.min() >= x0 - 2
    assert columns.max() <= x1 + 2
    assert rows.min() >= y0 - 2
    assert rows.max() <= y1 + 2


def test_light_lies_over_the_whole_picture() -> None:
    scene = next(scenes_of(SMALL, "val"))
    lit = {light: np.asarray(draw_scene(replace(scene, light=light), Random(0)), dtype=float) for light in LIGHTS}
    for light in set(LIGHTS) - {"sunny"}:
        changed = np.abs(lit[light] - lit["sunny"]).sum(-1) > 0
        quarters = [changed[y : y + 112, x : x + 112].mean() for y in (0, 112) for x in (0, 112)]
        assert min(quarters) > 0.85, light


def test_the_nearer_thing_covers_the_other() -> None:
    scene = next(s for s in scenes_of(ScenesConfig(), "val") if s.main.relation == "front")
    alone = replace(
        scene, light="sunny", things=tuple(scene.things[i] for i in (scene.main.landmark, scene.main.subject))
    )
    subject_only = replace(alone, things=alone.things[1:])
    both, one = (np.asarray(draw_scene(s, Random(0)), dtype=int) for s in (alone, subject_only))
    a, b = (thing.box for thing in alone.things)
    same = (both == one).all(-1)
    x0, y0, x1, y1 = (round(v) for v in (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    plain = (slice(round(a[1]), round(a[3])), slice(round(a[0]), round(a[2])))
    # The covered part shows more of the subject than the landmark's box does as a whole.
    assert same[y0:y1, x0:x1].mean() > same[plain].mean() + 0.2


def test_the_task_is_fair() -> None:
    found = tables(ScenesConfig(train=120, val=100))
    pair = found["Holds the captioned pair, share of val"]
    assert pair["k=3 nearest"] > 0.85
    assert pair["k=3 random"] < 0.55
    for rule in ("the two nearest things of all", "subject and its nearest thing", "the two largest things"):
        assert pair[rule] < 0.4
    assert max(found["Guesses the relation, share of val"].values()) < 0.4
    cost = found["CIDEr on val of a caption that is"]
    assert cost["right but for the opposite relation"] < 0.92 * cost["right"]
    assert cost["right, attributes left out"] < 0.7 * cost["right"]
    assert cost["right, place and light left out"] < 0.97 * cost["right"]
    assert cost["a random training caption"] < 0.2 * cost["right"]
