import json

import pytest
import torch

from regioncap.encoders.store import StoreError, open_store


@pytest.fixture
def store(pictures, root, extracted):
    return extracted(pictures, root)


def test_store_gives_what_the_encoder_said_to_half_precision(store, pictures, patches):
    encoder = patches()
    pixels = torch.stack([encoder.load(path)[0] for path in pictures.values()])
    rows = torch.tensor([10, 1, 4, 4])
    wanted, found = encoder(pixels[rows]), store.images(rows)
    torch.testing.assert_close(found.pooled, wanted.pooled.half().float())
    torch.testing.assert_close(found.regions.features, wanted.regions.features.half().float())
    for name in ("boxes", "scores", "valid", "words", "word_scores"):  # coordinates and scores lose nothing
        assert torch.equal(getattr(found.regions, name), getattr(wanted.regions, name)), name
    assert (store.pooled_dim, store.region_dim, store.words) == (3, 5, ("dim", "light", "bright"))


def test_slots_that_are_padding_in_all_images_are_left_out(store):
    assert store.images(torch.tensor([1, 3])).regions.valid.shape == (2, 2)
    assert store.images(torch.tensor([1, 2])).regions.valid.shape == (2, 4)


def test_pooled_is_that_of_the_images(store):
    rows = torch.tensor([7, 0])
    assert torch.equal(store.pooled(rows), store.images(rows).pooled)
    assert torch.equal(store.pooled(), store.images(torch.arange(11)).pooled)


def test_taken_rows_are_a_store(store):
    part = store.take(torch.tensor([9, 2, 5])).take(torch.tensor([2, 0]))
    assert part.names == ("5.png", "9.png")
    assert torch.equal(part.images(torch.tensor([0, 1])).pooled, store.images(torch.tensor([5, 9])).pooled)


def test_manifest_says_what_is_stored(store):
    told = json.loads((store.folder / "manifest.json").read_text())
    assert told["encoder"]["config.scale"] == 1.0
    assert [name for name, _, _ in told["images"]] == list(store.names)
    assert told["bytes"] == sum(path.stat().st_size for path in store.folder.glob("*.safetensors"))
    assert told["bytes_per_image"] == round(told["bytes"] / 11)
    assert ["regions.features", "float16", [5]] in told["fields"]
    assert told["batch_size"] == 2
    assert "torch" in told["versions"]


def test_unfinished_or_damaged_store_is_told(store):
    (shard, *_) = sorted(store.folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match=rf"{shard.name} has \d+ bytes, not \d+: run the extraction again"):
        open_store(store.folder)
    shard.unlink()
    with pytest.raises(StoreError, match=rf"{shard.name} cannot be read"):
        open_store(store.folder)
    (store.folder / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match=r"manifest\.json cannot be read .*remove it and run"):
        open_store(store.folder)
    (store.folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match="holds no finished feature store"):
        open_store(store.folder)
