"""What a finished store says of itself, readable: which encoder, which images, which of them are missing and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from regioncap.encoders.store.atomic import write_durably
from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.fingerprint import Fingerprint

MANIFEST = "manifest.json"
_LIBRARIES = ("torch", "torchvision", "transformers", "pillow", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The table of contents of a store; it is written last, so that its presence means that all is there."""

    name: str
    encoder: Fingerprint
    words: tuple[str, ...]
    """What `Regions.words` index."""
    batch_size: int
    """Images that were encoded together; in bfloat16 the last digits may depend on it."""
    versions: Mapping[str, str]
    """Of the libraries that encoded."""
    fields: Mapping[str, tuple[str, tuple[int, ...]]]
    """Type and shape of each tensor, of one image or, where `<name>.counts` says how many there are, of one slot."""
    bytes: int
    """Of all shards."""
    shards: tuple[tuple[str, int, int], ...]
    """File, bytes and number of images of each."""
    unreadable: Mapping[str, str]
    """Images that are not in the store, and why."""
    images: tuple[tuple[str, int, str], ...]
    """Name, bytes and SHA-256 of each picture, in order; those that are unreadable among them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Images that are in the store, in order."""
        return tuple(name for name, _, _ in self.images if name not in self.unreadable)


def library_versions() -> dict[str, str]:
    """Of what decides an encoder's last digits."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # a library from a folder
            found[library] = "unknown"
    return found


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write it durably, an image a line."""
    head: dict[str, Any] = {
        "name": manifest.name,
        "encoder_key": manifest.encoder.key,
        "encoder": dict(manifest.encoder.values),
        "versions": dict(manifest.versions),
        "batch_size": manifest.batch_size,
        "bytes": manifest.bytes,
        "bytes_per_image": round(manifest.bytes / max(1, len(manifest.names))),
        "words": manifest.words,
        "unreadable": dict(manifest.unreadable),
    }
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2]
    fields = sorted((name, kind, shape) for name, (kind, shape) in manifest.fields.items())
    for name, rows in (("fields", fields), ("shards", manifest.shards), ("images", manifest.images)):
        text += f',\n "{name}": {_lines(rows)}'
    text += "\n}\n"
    write_durably(folder / MANIFEST, text.encode())


def read_manifest(folder: Path) -> Manifest:
    """The inverse of `write_manifest`. Raises StoreError if there is none or it is damaged."""
    file = folder / MANIFEST
    try:
        stored = json.loads(file.read_bytes())
        return Manifest(
            name=stored["name"],
            encoder=Fingerprint(values=stored["encoder"]),
            words=tuple(stored["words"]),
            batch_size=stored["batch_size"],
            versions=stored["versions"],
            fields={name: (kind, tuple(shape)) for name, kind, shape in stored["fields"]},
            bytes=stored["bytes"],
            shards=tuple((name, size, images) for name, size, images in stored["shards"]),
            unreadable=stored["unreadable"],
            images=tuple((name, size, digest) for name, size, digest in stored["images"]),
        )
    except FileNotFoundError:
        raise StoreError(f"{folder} holds no finished feature store: run the extraction to its end") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} cannot be read ({error}): remove it and run the extraction again") from error


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    return "[\n" + ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows) + "\n ]"
