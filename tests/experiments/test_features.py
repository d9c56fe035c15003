import os
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.encoders import ImageFeatures, Regions, load_image
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.features import FeatureStore, extract


class Patches:
    """An encoder by hand: the four quarters of a picture are regions; dark ones are no regions and come last."""

    pooled_dim, region_dim, regions_per_image = 3, 5, 6
    words, words_per_region = ("dim", "light", "bright"), 1

    def __init__(self, fail_at: int | None = None, scale: float = 1.0) -> None:
        self.batches, self.fail_at, self.scale = 0, fail_at, scale
        self.lock = Lock()  # batches come from several threads

    def load(self, path: Path) -> tuple[torch.Tensor]:
        return (load_image(path, 8),)

    def __call__(self, *pixels: torch.Tensor) -> ImageFeatures:
        (images,) = pixels
        with self.lock:
            if self.batches == self.fail_at:
                raise KeyboardInterrupt
            self.batches += 1
        quarters = images.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2)).flatten(2).mT  # B 4 3
        bright = quarters.mean(-1)
        valid, order = (bright > 0.2).sort(dim=1, descending=True, stable=True)
        features = torch.cat([quarters, quarters[..., :2] * 100], -1).gather(1, order[..., None].expand(-1, -1, 5))
        scores = bright.gather(1, order)
        corner = order[..., None] / 4
        return ImageFeatures(
            pooled=images.mean((2, 3)) * self.scale,
            regions=Regions(
                features=features,
                boxes=(corner + torch.arange(4) / 16).float(),
                scores=scores,
                valid=valid,
                words=(3 * scores).long().clamp(max=2).masked_fill(~valid, -1)[..., None],
                word_scores=scores[..., None],
            ),
        )


@pytest.fixture
def images(tmp_path: Path) -> tuple[CaptionedImage, ...]:
    """Seven pictures with one to four bright quarters."""
    generator = np.random.default_rng(0)
    found = []
    for i in range(7):
        pixels = generator.integers(100, 255, (8, 8, 3), dtype=np.uint8)
        if i % 2:
            pixels[:4] = 0
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path)
        found.append(CaptionedImage(name=path.name, path=path, captions=("a thing",)))
    return tuple(found)


@pytest.fixture
def store(images: tuple[CaptionedImage, ...], tmp_path: Path) -> Callable[..., FeatureStore]:
    def extracted(encoder: Patches | None = None, key: str = "k") -> FeatureStore:
        return extract(images, encoder or Patches(), tmp_path / "cache", key, batch_size=3)

    return extracted


def pixels_of(images: tuple[CaptionedImage, ...]) -> torch.Tensor:
    loaded = [torch.from_numpy(np.array(Image.open(image.path))).permute(2, 0, 1) / 255 for image in images]
    return torch.stack(loaded)


def test_store_gives_what_the_encoder_said_to_half_precision(
    images: tuple[CaptionedImage, ...], store: Callable[..., FeatureStore]
) -> None:
    kept = store()
    assert kept.names == tuple(image.name for image in images)
    assert (len(kept), kept.pooled_dim, kept.region_dim) == (7, 3, 5)
    rows = torch.tensor([6, 1, 4])
    wanted, found = Patches()(pixels_of(images)[rows]), kept.images(rows)
    torch.testing.assert_close(found.pooled, wanted.pooled.half().float())
    torch.testing.assert_close(found.regions.features, wanted.regions.features.half().float())
    for name in ("boxes", "scores", "valid", "words", "word_scores"):  # coordinates and scores lose nothing
        torch.testing.assert_close(getattr(found.regions, name), getattr(wanted.regions, name), rtol=0, atol=0)


def test_slots_that_are_padding_in_all_images_are_left_out(store: Callable[..., FeatureStore]) -> None:
    kept = store()
    assert kept.images(torch.tensor([1, 3])).regions.valid.shape == (2, 2)
    assert kept.images(torch.tensor([1, 2])).regions.valid.shape == (2, 4)


def test_second_extraction_reads_the_first(store: Callable[..., FeatureStore]) -> None:
    first = store()
    assert store(Patches(fail_at=0)).folder == first.folder


def test_another_encoder_or_a_changed_file_is_encoded_again(
    images: tuple[CaptionedImage, ...], store: Callable[..., FeatureStore]
) -> None:
    first = store()
    assert store(Patches(scale=2.0), key="other").folder != first.folder
    Image.new("RGB", (8, 8), (255, 255, 255)).save(images[2].path)
    again = store()
    assert again.folder != first.folder
    torch.testing.assert_close(again.images(torch.tensor([2])).pooled, torch.ones(1, 3))
    assert first.images(torch.tensor([2])).pooled.max() < 0.9


def test_same_bytes_written_later_are_encoded_again(
    images: tuple[CaptionedImage, ...], store: Callable[..., FeatureStore]
) -> None:
    first = store()
    os.utime(images[0].path, (1, 1))
    assert store().folder != first.folder


def test_extraction_that_dies_midway_is_never_taken_for_complete(store: Callable[..., FeatureStore]) -> None:
    with pytest.raises(KeyboardInterrupt):
        store(Patches(fail_at=2))
    encoder = Patches()
    kept = store(encoder)
    assert encoder.batches == 3
    assert (kept.pooled > 0).all()
    assert [path.name for path in kept.folder.parent.iterdir()] == [kept.folder.name]


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 80).convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:600])


def damage_text(path: Path) -> None:
    path.write_text("no picture")


def damage_header(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR")


@pytest.mark.parametrize("damage", [damage_empty, damage_truncated, damage_text, damage_header, Path.unlink])
def test_picture_that_cannot_be_read_is_named_in_one_line(
    images: tuple[CaptionedImage, ...], store: Callable[..., FeatureStore], damage: Callable[[Path], None]
) -> None:
    damage(images[4].path)
    with pytest.raises(ValueError, match=r"4\.png") as caught:
        store()
    assert "\n" not in str(caught.value)
    assert "remove" in str(caught.value)  # a way out


def test_values_that_half_precision_cannot_hold_are_refused(store: Callable[..., FeatureStore]) -> None:
    with pytest.raises(ValueError, match="not finite in float16; check its weights"):
        store(Patches(scale=1e6))
