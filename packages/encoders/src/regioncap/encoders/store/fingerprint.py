"""What an encoder is, in numbers: two encoders with the same fingerprint say the same of the same pictures."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from regioncap.encoders.image_encoder import ImageEncoder

_FORMAT = 1
_PROBES = ((97, 61), (640, 480))
"""Sizes of the pictures that preprocessing is tried on: most encoders enlarge the one and shrink the other."""
_SAYS_WHERE = ("weights", "_name_or_path", "transformers_version", "dtype")
"""Settings that say where weights came from, and nothing of what they are: the digest of the weights does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """All that decides an encoder's output, flat: class, settings, widths, digests of weights and preprocessing."""

    values: Mapping[str, Any]

    @property
    def key(self) -> str:
        """One word for all of it."""
        return hashlib.sha256(json.dumps(dict(self.values), sort_keys=True).encode()).hexdigest()[:16]

    def difference(self, other: "Fingerprint") -> str:
        """What `other` has that is not so here, in words; empty if nothing."""
        names = sorted({*self.values, *other.values})
        told = [
            f"{name} is {self.values.get(name, 'absent')}, not {other.values.get(name, 'absent')}"
            for name in names
            if self.values.get(name) != other.values.get(name)
        ]
        return "; ".join(told)


def fingerprint(encoder: ImageEncoder) -> Fingerprint:
    """Take an encoder's fingerprint; about a second for a gigabyte of weights.

    Weights are hashed to the bit. Preprocessing is what `load` makes of two probe pictures, so that no encoder can
    forget to mention a part of it. Settings are those of the dataclass or of transformers under `config`, of the
    encoder and its parts; an encoder that has other knobs shows them by a `config` too. The device is no part of it.
    """
    values: dict[str, Any] = {"format": _FORMAT, "encoder": type(encoder).__name__}
    values |= dict(_settings_of(encoder))
    for name in ("pooled_dim", "region_dim", "regions_per_image", "words_per_region"):
        values[name] = getattr(encoder, name)
    values["words"] = _short_digest(json.dumps(encoder.words).encode())
    values["weights"] = _weights(encoder)
    values["preprocessing"] = _preprocessing(encoder)
    return Fingerprint(values=values)


def _settings_of(encoder: ImageEncoder) -> Iterator[tuple[str, Any]]:
    parts = encoder.named_modules() if isinstance(encoder, nn.Module) else [("", encoder)]
    seen: set[int] = set()
    for place, part in parts:
        config = getattr(part, "config", None)
        if config is None or id(config) in seen:
            continue
        seen.add(id(config))
        prefix = f"{place}.config" if place else "config"
        if hasattr(config, "to_diff_dict"):
            # transformers: what is not the default, so that a later version with more settings changes nothing.
            plain = {name: value for name, value in config.to_diff_dict().items() if name not in _SAYS_WHERE}
            yield prefix, _short_digest(json.dumps(plain, sort_keys=True, default=str).encode())
        elif is_dataclass(config):
            yield from _flat(config, prefix)


def _flat(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields(config):
        name, value = f"{prefix}.{field.name}", getattr(config, field.name)
        if is_dataclass(value):
            yield name, type(value).__name__
            yield from _flat(value, name)
        elif field.name not in _SAYS_WHERE and not isinstance(value, Path):
            yield name, value if isinstance(value, str | int | float | bool) else str(value)


def _weights(encoder: ImageEncoder) -> str:
    digest = hashlib.sha256()
    state = encoder.state_dict() if isinstance(encoder, nn.Module) else {}
    for name, value in sorted(state.items()):
        if not isinstance(value, Tensor):
            digest.update(f"{name} {value!r}".encode())
            continue
        dense = value.to_dense() if value.layout is not torch.strided else value
        digest.update(f"{name} {dense.dtype} {tuple(dense.shape)}".encode())
        digest.update(_bytes(dense))
    return digest.hexdigest()[:16]


def _preprocessing(encoder: ImageEncoder) -> str:
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        for width, height in _PROBES:
            path = Path(folder) / f"{width}x{height}.png"
            x, y, c = np.meshgrid(np.arange(width), np.arange(height), np.arange(3))
            Image.fromarray(((7 * x + 13 * y + 50 * c + x * y // 5) % 256).astype(np.uint8)).save(path)
            for pixels in encoder.load(path):
                digest.update(f"{pixels.dtype} {tuple(pixels.shape)}".encode())
                digest.update(_bytes(pixels))
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> memoryview:
    # numpy's stubs declare the buffer protocol from Python 3.12 on
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def _short_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
