"""The feature store: what the frozen encoders say of every image, computed once and read back memory-mapped.

A cached encoder is another encoder that returns the same dataclass: `FeatureStore.images` gives `ImageFeatures`.
One folder holds one split. It is written beside its final place and renamed when complete, so that a killed
extraction leaves nothing that could be taken for a finished one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from regioncap.encoders import ImageEncoder, ImageFeatures, Regions
from regioncap.experiments.data.dataset import CaptionedImage, DataError
from regioncap.experiments.progress import track

_ARRAYS = ("pooled", "features", "boxes", "scores", "valid", "words", "word_scores")
_INDEX = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureStore:
    """Encoded images of one split, n of them. Half precision on disk, float32 in memory."""

    folder: Path
    names: tuple[str, ...]
    pooled: np.ndarray  # n G
    features: np.ndarray  # n N R
    boxes: np.ndarray  # n N 4
    scores: np.ndarray  # n N
    valid: np.ndarray  # n N
    words: np.ndarray  # n N Q
    word_scores: np.ndarray  # n N Q

    def __len__(self) -> int:
        return len(self.names)

    @property
    def pooled_dim(self) -> int:
        """G, the width of the activations before the CLIP-style head."""
        return int(self.pooled.shape[-1])

    @property
    def region_dim(self) -> int:
        """R, the raw region width."""
        return int(self.features.shape[-1])

    def images(self, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order. Slots that are padding in all of them are left out."""
        at = rows.numpy()
        slots = max(int(self.valid[at].sum(axis=1).max()), 1)
        return ImageFeatures(
            pooled=_tensor(self.pooled[at]),
            regions=Regions(
                features=_tensor(self.features[at, :slots]),
                boxes=_tensor(self.boxes[at, :slots]),
                scores=_tensor(self.scores[at, :slots]),
                valid=torch.from_numpy(self.valid[at, :slots]),
                words=torch.from_numpy(self.words[at, :slots].astype(np.int64)),
                word_scores=_tensor(self.word_scores[at, :slots]),
            ),
        )


def extract(
    images: Sequence[CaptionedImage], encoder: ImageEncoder, cache: Path, encoder_key: str, batch_size: int = 8
) -> FeatureStore:
    """Encode `images`, or read what an earlier call with the same images and encoder wrote under `cache`.

    `encoder_key` names the encoder and its weights. Raises ValueError naming the file that does not decode.
    """
    folder = cache / "features" / _key(images, encoder_key)
    if not (folder / _INDEX).exists():
        _write(images, encoder, folder, batch_size)
    return open_store(folder)


def open_store(folder: Path) -> FeatureStore:
    """Open what `extract` wrote."""
    names = tuple(json.loads((folder / _INDEX).read_text())["names"])
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    return FeatureStore(folder=folder, names=names, **arrays)


def _key(images: Sequence[CaptionedImage], encoder_key: str) -> str:
    """A digest of the encoder and of every file's name, size and time of change: an edited image is encoded again."""
    digest = hashlib.sha256(encoder_key.encode())
    for image in images:
        try:
            status = image.path.stat()
        except OSError as error:
            raise DataError(
                f"{image.path}: cannot be read ({error.strerror}); restore it or remove its lines"
            ) from error
        digest.update(f"{image.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:20]


def _write(images: Sequence[CaptionedImage], encoder: ImageEncoder, folder: Path, batch_size: int) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    n, slots = len(images), encoder.regions_per_image
    shapes = {
        "pooled": (np.float16, (n, encoder.pooled_dim)),
        "features": (np.float16, (n, slots, encoder.region_dim)),
        "boxes": (np.float32, (n, slots, 4)),
        "scores": (np.float32, (n, slots)),
        "valid": (np.bool_, (n, slots)),
        "words": (np.int32, (n, slots, encoder.words_per_region)),
        "word_scores": (np.float32, (n, slots, encoder.words_per_region)),
    }
    arrays = {
        name: np.lib.format.open_memmap(partial / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (dtype, shape) in shapes.items()
    }
    starts = range(0, n, batch_size)

    def encode(start: int) -> ImageFeatures:
        batch = images[start : start + batch_size]
        with torch.inference_mode():
            return encoder(
                *(torch.stack(column) for column in zip(*(encoder.load(image.path) for image in batch), strict=True))
            )

    # A thread per core, each with batches of its own: torch's own threads wait for each other in every layer, which on
    # a busy machine of two cores made the scenes detector fourteen times slower than one thread.
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        encoded = track(pool.map(encode, starts), description="encode images", total=len(starts))
        for start, part in zip(starts, encoded, strict=True):
            end, width = start + len(part.pooled), part.regions.features.shape[1]
            arrays["pooled"][start:end] = _half(part.pooled)
            arrays["features"][start:end, :width] = _half(part.regions.features)
            arrays["boxes"][start:end, :width] = part.regions.boxes.float().numpy()
            arrays["scores"][start:end, :width] = part.regions.scores.float().numpy()
            arrays["valid"][start:end, :width] = part.regions.valid.numpy()
            arrays["words"][start:end, :width] = part.regions.words.numpy()
            arrays["word_scores"][start:end, :width] = part.regions.word_scores.float().numpy()
    for array in arrays.values():
        array.flush()
    (partial / _INDEX).write_text(json.dumps({"names": [image.name for image in images]}))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _half(tensor: Tensor) -> np.ndarray:
    """Float16 as stored. Raises if a value leaves its range: a silent infinity would poison every later step."""
    with np.errstate(over="ignore"):  # said below, as an error
        array = tensor.float().numpy().astype(np.float16)
    if not np.isfinite(array).all():
        raise ValueError("an image encoder returned values that are not finite in float16; check its weights")
    return array
