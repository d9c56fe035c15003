"""A shard on disk: one safetensors file, there whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.store.atomic import PARTIAL, write_durably
from regioncap.encoders.store.layout import Shard

_UNREADABLE = "unreadable"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(Exception):
    """There was no room for a shard of so many bytes."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"no room for {needed} bytes")
        self.needed = needed


def write_shard(path: Path, tensors: Mapping[str, Tensor], unreadable: Mapping[int, str]) -> None:
    """Write what was encoded, and why which images (by their place in the shard) were not. Raises DiskFull."""
    told = json.dumps({str(place): reason for place, reason in unreadable.items()})
    content = save(dict(tensors), metadata={_UNREADABLE: told})
    try:
        write_durably(path, content)
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(len(content)) from error
        raise


def open_shard(path: Path) -> Shard:
    """Map a shard: nothing of it is read before it is used. Raises OSError or SafetensorError."""
    return Shard(load_file(path))


def unreadable_of(path: Path) -> dict[int, str]:
    """Images of a shard that could not be read, by their place in it, and why."""
    with safe_open(path, "pt") as file:
        told: dict[str, str] = json.loads(file.metadata()[_UNREADABLE])
    return {int(place): reason for place, reason in told.items()}


def is_whole(path: Path) -> bool:
    """Whether a shard is there and complete; a file that was cut later is not."""
    try:
        with safe_open(path, "pt") as file:
            return _UNREADABLE in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def finished(path: Path, encoder: ImageEncoder, paths: Sequence[Path]) -> bool:
    """Whether a shard is whole, and those of its pictures that could not be read still cannot be.

    A disk that failed for a moment, or a decoder that was not installed, must not leave a picture out for good.
    """
    return is_whole(path) and not any(_loads(encoder, paths[place]) for place in unreadable_of(path))


def borrow(path: Path, root: Path, identity: str) -> bool:
    """Put the shard of this identity from another store under `root` at `path`, if there is one; costs no room."""
    for other in sorted(root.glob(f"*/*-{identity}")):
        if other == path or not is_whole(other):
            continue
        partial = path.with_name(path.name + PARTIAL)
        partial.unlink(missing_ok=True)
        try:
            os.link(other, partial)
        except OSError:  # file systems without hard links
            shutil.copyfile(other, partial)
        partial.rename(path)
        return True
    return False


def _loads(encoder: ImageEncoder, path: Path) -> bool:
    try:
        encoder.load(path)
    except ValueError:
        return False
    return True
