"""How `ImageFeatures` lie in a shard: flat names, the precision of each, and no padding."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from regioncap.encoders.image_features import ImageFeatures

Kind = TypeVar("Kind")
HALF = frozenset({"pooled", "regions.features"})
"""Kept as float16; all other floats (boxes, scores) lose nothing and are float32."""
_COUNTS = "counts"


class NotFinite(ValueError):
    """A value leaves the range of float16; `row` is the image's place in what was packed."""

    def __init__(self, name: str, row: int) -> None:
        super().__init__(f"{name} is not finite in float16")
        self.row = row


def flatten(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a dataclass and of those in it, by dotted names."""
    flat: dict[str, Tensor] = {}
    for field in fields(value):
        name, item = f"{prefix}{field.name}", getattr(value, field.name)
        flat |= flatten(item, f"{name}.") if is_dataclass(item) else {name: item}
    return flat


def assemble(kind: type[Kind], flat: Mapping[str, Tensor], prefix: str = "") -> Kind:
    """The inverse of `flatten`."""
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        name = f"{prefix}{field.name}"
        inner = field.type
        values[field.name] = assemble(inner, flat, f"{name}.") if is_dataclass(inner) else flat[name]  # type: ignore[arg-type]
    return kind(**values)


def pack(features: ImageFeatures) -> dict[str, Tensor]:
    """A batch as it is stored, on the CPU; those of a shard follow each other along the first axis (`join`).

    A dataclass with `valid` holds slots: those after an image's last valid one are left out, and the images' slots
    follow each other in one long axis; `<name>.counts` says how many each has. A detector that fills 12 of 36 slots
    takes a third of the bytes, a grid 4 bytes an image more. Raises NotFinite for what float16 cannot hold.
    """
    flat = flatten(features)
    packed: dict[str, Tensor] = {}
    for name, value in flat.items():
        if name in HALF:
            _check(name, value)
        stored = _stored(name, value)
        group = _group(name, flat)
        if group is None:
            packed[name] = stored
            continue
        counts = _used(flat[f"{group}.valid"]).cpu()
        packed[f"{group}.{_COUNTS}"] = counts.int()
        slots = stored.shape[1]
        full = int(counts.min()) == slots
        packed[name] = stored.flatten(0, 1) if full else stored[torch.arange(slots) < counts[:, None]]
    return packed


def join(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The packed batches of a shard as one."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]} if batches else {}


def unpack(shards: Sequence["Shard"], rows: Sequence[int], *, only: str | None = None) -> dict[str, Tensor]:
    """Image `rows[i]` of `shards[i]` for every i: flat float32, int64 and bool tensors, padded to the most slots.

    Padding is zero, of integers -1: the word of no word. `only` reads one tensor that has no slots.
    """
    first = shards[0].tensors
    flat: dict[str, Tensor] = {}
    for name, stored in first.items():
        if name.endswith(f".{_COUNTS}") or (only is not None and name != only):
            continue
        group = _group(name, first)
        if group is None:
            value = stored.new_empty(len(rows), *stored.shape[1:], dtype=_in_memory(stored))
            for i, (shard, row) in enumerate(zip(shards, rows, strict=True)):
                value[i] = shard.tensors[name][row]
        else:
            spans = [shard.span(group, row) for shard, row in zip(shards, rows, strict=True)]
            slots = max((end - start for start, end in spans), default=1)
            kind = _in_memory(stored)
            value = stored.new_full((len(rows), slots, *stored.shape[1:]), -1 if kind is torch.int64 else 0, dtype=kind)
            for i, (shard, (start, end)) in enumerate(zip(shards, spans, strict=True)):
                value[i, : end - start] = shard.tensors[name][start:end]
        flat[name] = value
    return flat


class Shard:
    """The tensors of one shard, in memory or mapped from its file."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self._ends = {
            name.removesuffix(f".{_COUNTS}"): value.long().cumsum(0).tolist()
            for name, value in tensors.items()
            if name.endswith(f".{_COUNTS}")
        }

    def __len__(self) -> int:
        return len(self.tensors["pooled"])

    def span(self, group: str, row: int) -> tuple[int, int]:
        """Where an image's slots begin and end."""
        ends = self._ends[group]
        return (ends[row - 1] if row else 0), ends[row]


def _group(name: str, flat: Mapping[str, Tensor]) -> str | None:
    """The dataclass that `name` is a slot-wise field of, or None."""
    group = name.rpartition(".")[0]
    return group if f"{group}.valid" in flat else None


def _used(valid: Tensor) -> Int[Tensor, "B"]:
    """Slots up to the last valid one, at least one."""
    place = torch.arange(1, valid.shape[1] + 1, device=valid.device)
    return (valid * place).amax(1).clamp(min=1)


def _stored(name: str, value: Tensor) -> Tensor:
    if value.is_floating_point():
        return value.to(torch.float16 if name in HALF else torch.float32).cpu()
    return value.cpu() if value.dtype is torch.bool else value.to(torch.int32).cpu()


def _in_memory(stored: Tensor) -> torch.dtype:
    if stored.is_floating_point():
        return torch.float32
    return torch.bool if stored.dtype is torch.bool else torch.int64


def _check(name: str, value: Tensor) -> None:
    """A silent infinity would poison every later step."""
    least, most = torch.aminmax(value)
    limit = torch.finfo(torch.float16).max
    # NaN is neither below nor above anything, so it fails this as well.
    if not (least >= -limit and most <= limit):
        within = ((value >= -limit) & (value <= limit)).flatten(1).all(1)
        raise NotFinite(name, int((~within).nonzero()[0]))
