"""An encoder by hand, and pictures for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.encoders import ImageFeatures, Regions, load_image


@dataclass(frozen=True, kw_only=True)
class PatchesSettings:
    scale: float = 1.0
    size: int = 8


@dataclass(kw_only=True)
class Patches:
    """The four quarters of a picture are regions; dark ones are no regions and come last."""

    pooled_dim, region_dim, regions_per_image = 3, 5, 6
    words, words_per_region = ("dim", "light", "bright"), 1
    config: PatchesSettings = field(default_factory=PatchesSettings)
    fail_at: int | None = None
    """A batch that is interrupted."""
    seconds: float = 0.0
    """Of every batch."""
    sizes: list[int] = field(default_factory=list)
    """Of the batches so far."""
    loaded: int = 0
    running: int = 0
    most: int = 0
    """Batches that were encoded at the same time."""
    lock: Lock = field(default_factory=Lock)

    def load(self, path: Path) -> tuple[torch.Tensor]:
        self.loaded += 1
        return (load_image(path, self.config.size),)

    def __call__(self, *pixels: torch.Tensor) -> ImageFeatures:
        (images,) = pixels
        with self.lock:
            if len(self.sizes) == self.fail_at:
                raise KeyboardInterrupt
            self.sizes.append(len(images))
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        half = self.config.size // 2
        quarters = images.unfold(2, half, half).unfold(3, half, half).mean((-1, -2)).flatten(2).mT  # B 4 3
        bright = quarters.mean(-1)
        valid, order = (bright > 0.2).sort(dim=1, descending=True, stable=True)
        features = torch.cat([quarters, quarters[..., :2] * 100], -1).gather(1, order[..., None].expand(-1, -1, 5))
        scores = bright.gather(1, order) * valid
        corner = order[..., None] / 4
        with self.lock:
            self.running -= 1
        return ImageFeatures(
            pooled=images.mean((2, 3)) * self.config.scale,
            regions=Regions(
                features=features * valid[..., None],
                boxes=(corner + torch.arange(4) / 16).float() * valid[..., None],
                scores=scores,
                valid=valid,
                words=(3 * scores).long().clamp(max=2).masked_fill(~valid, -1)[..., None],
                word_scores=scores[..., None],
            ),
        )


@pytest.fixture
def make_pictures(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """So many pictures with one to four bright quarters."""

    def make(count: int, seed: int = 0, folder: str = "pictures") -> dict[str, Path]:
        generator = np.random.default_rng(seed)
        (tmp_path / folder).mkdir(exist_ok=True)
        found = {}
        for i in range(count):
            pixels = generator.integers(100, 255, (8, 8, 3), dtype=np.uint8)
            if i % 2:
                pixels[:4] = 0
            path = tmp_path / folder / f"{i}.png"
            Image.fromarray(pixels).save(path)
            found[path.name] = path
        return found

    return make


@pytest.fixture
def pictures(make_pictures: Callable[..., dict[str, Path]]) -> dict[str, Path]:
    return make_pictures(11)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "features"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
