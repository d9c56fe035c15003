"""An encoder by hand, and pictures for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.encoders import ImageFeatures, Regions, load_image
from regioncap.encoders.store import ExtractConfig, FeatureStore, extract


@dataclass(frozen=True, kw_only=True)
class PatchesConfig:
    scale: float = 1.0
    size: int = 8


class Patches:
    """The four quarters of a picture are regions; dark ones are no regions and come last."""

    pooled_dim, region_dim, regions_per_image = 3, 5, 6
    words, words_per_region = ("dim", "light", "bright"), 1

    def __init__(self, *, scale: float = 1.0, size: int = 8, seconds: float = 0.0, fail_at: int | None = None) -> None:
        """A batch takes `seconds`; the one of number `fail_at` is interrupted."""
        self.config = PatchesConfig(scale=scale, size=size)
        self.seconds, self.fail_at = seconds, fail_at
        self.sizes: list[int] = []  # of the batches so far
        self.running = self.most = 0  # batches that are, and at the most were, encoded at the same time
        self.lock = Lock()

    def load(self, path: Path) -> tuple[torch.Tensor]:
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


@pytest.fixture
def patches() -> type[Patches]:
    return Patches


@pytest.fixture
def extracted() -> Callable[..., FeatureStore]:
    """`extract` in shards of four and batches of two."""

    def run(pictures: dict[str, Path], root: Path, encoder: Patches | None = None, **settings: Any) -> FeatureStore:
        team, observer = settings.pop("team", None), settings.pop("observer", None)
        config = ExtractConfig(**{"batch_size": 2, "threads": 2} | settings)
        encoder = encoder or Patches()
        return extract(pictures, encoder, root, "train", config, team=team, observer=observer, shard_size=4)

    return run


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file of a folder."""
    return lambda folder: {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
