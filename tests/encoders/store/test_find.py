import pytest
from PIL import Image

from regioncap.encoders.store import StoreError, find_store


@pytest.fixture
def find(pictures, root, extracted, patches):
    extracted(pictures, root)
    return lambda own=pictures, **settings: find_store(own, patches(**settings), root, "train", shard_size=4)


def test_store_of_the_same_is_found(find):
    assert len(find()) == 11


def test_other_settings_of_the_encoder_are_told(find):
    with pytest.raises(StoreError, match=r"train-\w+: another encoder, config\.scale is 1\.0, not 2\.0\): extract"):
        find(scale=2.0)


def test_other_preprocessing_is_told(find):
    with pytest.raises(StoreError, match=r"config\.size is 8, not 16; preprocessing is \w+, not \w+"):
        find(size=16)


def test_other_pictures_are_told(find, pictures):
    Image.new("RGB", (8, 8)).save(pictures["3.png"])
    with pytest.raises(StoreError, match=r"1 have changed, 3\.png first"):
        find()
    fewer = {name: path for name, path in pictures.items() if name != "3.png"}
    with pytest.raises(StoreError, match=r"1 are gone, 3\.png first"):
        find(fewer)
    with pytest.raises(StoreError, match=r"2 pictures are new, a first"):
        find({**fewer, "3.png": pictures["2.png"], "a": pictures["0.png"], "b": pictures["1.png"]})


def test_unfinished_store_is_told(find, root):
    next(root.glob("train-*/manifest.json")).unlink()
    with pytest.raises(StoreError, match="has not come to its end: run it again"):
        find()
