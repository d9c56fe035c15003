"""Which images a page shows, and their pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from regioncap.experiments.scoring.gallery import PictureFolder, choose_images


def test_all_images_are_shown_where_they_fit(invented):
    assert choose_images(invented(10), 200, 0) == list(range(10))
    assert choose_images(invented(10), 10, 0) == list(range(10))
    assert choose_images(invented(10), 0, 0) == []


@pytest.mark.parametrize("names", [("one",), ("one", "two"), ("one", "two", "three")])
def test_heads_of_all_rankings_are_among_those_shown(invented, names):
    comparison = invented(300, names)
    shown = choose_images(comparison, 80, 0)
    assert len(shown) == len(set(shown)) == 80
    assert shown == sorted(shown)
    for scores in comparison.per_image.values():
        extremes = {int(np.argmax(scores.mean(axis=0))), int(np.argmin(scores.mean(axis=0)))}
        for row in range(1, len(names)):
            difference = scores[row] - scores[0]
            extremes |= {int(np.argmax(difference)), int(np.argmin(difference))}
        assert extremes <= set(shown)


def test_seed_changes_the_random_part_alone(invented):
    comparison = invented(300)
    a, b = set(choose_images(comparison, 100, 0)), set(choose_images(comparison, 100, 1))
    assert a != b
    assert len(a & b) > 80
    assert choose_images(comparison, 100, 0) == sorted(a)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val2014").mkdir()
    Image.new("RGB", (800, 500), "red").save(tmp_path / "val2014" / "a.jpg")
    Image.new("RGBA", (40, 90), (0, 0, 255, 128)).save(tmp_path / "b.png")
    rotated = Image.Exif()
    rotated[274] = 6  # lies on its side
    Image.new("L", (100, 50)).save(tmp_path / "c.jpeg", exif=rotated)
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "val2014" / "a.jpg").read_bytes()[:300])
    (tmp_path / "text.jpg").write_text("no picture")
    return PictureFolder(tmp_path)


def opened(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("val2014/a.jpg", (320, 200)),
        ("a.jpg", (320, 200)),
        ("elsewhere/a.jpg", (320, 200)),
        ("a", (320, 200)),
        ("b.png", (40, 90)),
        ("c.jpeg", (50, 100)),
    ],
)
def test_pictures_are_found_turned_and_made_small(folder, name, size):
    address, why = folder.thumbnail(name)
    assert why == ""
    picture = opened(address)
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", size)


@pytest.mark.parametrize("name", ["none.jpg", "../secret.jpg", "/etc/passwd", "", ".."])
def test_picture_that_is_not_there_is_said_to_be_missing(folder, name):
    (folder.root.parent / "secret.jpg").write_bytes((folder.root / "b.png").read_bytes())
    assert folder.thumbnail(name) == ("", "not in the folder of pictures")


@pytest.mark.parametrize("name", ["broken.jpg", "text.jpg"])
def test_picture_that_does_not_decode_is_no_crash(folder, name):
    assert folder.thumbnail(name) == ("", "the picture does not decode")


def test_folder_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="is no folder; name the one that holds the pictures"):
        PictureFolder(tmp_path / "none")
