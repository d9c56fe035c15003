"""Which images make which shard, and what everything is called: a function of encoder and pictures alone."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regioncap.encoders.store.digests import digest_files
from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShard:
    """Images that are written together."""

    file: str
    """Its name ends in a digest of the encoder and the pictures' bytes: a shard of that name holds that, wherever."""
    start: int
    """Place of the first image in the whole list."""
    paths: tuple[Path, ...]

    @property
    def identity(self) -> str:
        """The digest alone."""
        return self.file.rpartition("-")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A split's images under one encoder."""

    name: str
    encoder: Fingerprint
    images: tuple[tuple[str, int, str], ...]
    """Name, bytes and SHA-256 of each."""
    shards: tuple[PlannedShard, ...]
    folder: str
    """Of the store, below its root."""


def make_plan(
    name: str, encoder: Fingerprint, pictures: Mapping[str, Path], book: Path, *, shard_size: int, threads: int
) -> Plan:
    """Cut the pictures into shards in their order; `book` remembers their digests.

    Raises StoreError if there are none.
    """
    if not pictures:
        raise StoreError(f"there is no picture to encode for {name}: name at least one")
    paths = list(pictures.values())
    digests = digest_files(paths, book, threads)
    shards: list[PlannedShard] = []
    for start in range(0, len(paths), shard_size):
        own = [digest for _, digest in digests[start : start + shard_size]]
        identity = _digest([encoder.key, own])[:12]
        shards.append(
            PlannedShard(
                file=f"{len(shards):05}-{identity}.safetensors",
                start=start,
                paths=tuple(paths[start : start + shard_size]),
            )
        )
    images = tuple((image, size, digest) for image, (size, digest) in zip(pictures, digests, strict=True))
    return Plan(
        name=name,
        encoder=encoder,
        images=images,
        shards=tuple(shards),
        folder=f"{name}-{_digest([encoder.key, images, shard_size])[:12]}",
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
