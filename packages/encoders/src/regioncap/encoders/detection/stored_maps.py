"""A frozen trunk runs over the same pictures in every epoch: here it runs once, and its maps are read from disk."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from regioncap.encoders.arithmetic import computes_bfloat16
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.config_json import to_json
from regioncap.encoders.detection.detector import Detector, Precision
from regioncap.encoders.detection.trunk import Maps

RECORD = "maps.json"
_SIDES = ("plain", "mirrored")


class MapExamples:
    """`Examples` out of a folder that `write_maps` filled; read by the page, so it may be larger than memory.

    The maps are stored in the precision they were computed in, so that nothing is lost. Raises ValueError if the folder
    is incomplete, or holds the maps of another trunk, of other pictures or in another precision.
    """

    def __init__(
        self, folder: Path, detector: Detector, targets: Sequence[BoxTargets], *, pictures: str, precision: Precision
    ) -> None:
        record = folder / RECORD
        if not record.is_file():
            raise ValueError(f"{record} is missing: the maps were not written to their end, run write_maps again")
        stored = json.loads(record.read_text())
        wanted = {"key": maps_key(detector, pictures, precision), "count": len(targets)}
        for name, value in wanted.items():
            if stored[name] != value:
                raise ValueError(
                    f"{folder} holds other maps ({name} {stored[name]}, wanted {value}): remove it and run write_maps"
                )
        self.targets = targets
        self.precision = precision
        self._sides = [
            {name: np.load(_file(folder, side, name), mmap_mode="r") for name in stored["maps"]} for side in _SIDES
        ]

    def maps(
        self, detector: Detector, rows: Int[Tensor, "B"], mirrored: Bool[Tensor, "B"], precision: Precision
    ) -> Maps:
        """Return the maps, read, as float32. Raises ValueError for another precision than they were computed in."""
        if precision != self.precision:
            raise ValueError(f"the stored maps are {self.precision}, training wants {precision}: make them alike")
        chosen = list(zip(mirrored.long().tolist(), rows.tolist(), strict=True))
        return {
            name: _floats(np.stack([self._sides[side][name][row] for side, row in chosen])) for name in self._sides[0]
        }


def write_maps(
    detector: Detector,
    batches: Iterable[UInt8[Tensor, "_b 3 S S"]],
    folder: Path,
    *,
    count: int,
    pictures: str,
    precision: Precision = "bfloat16",
) -> None:
    """Run the frozen part of the trunk over `count` pictures, as they are and mirrored, and store what it gives.

    `pictures` says which pictures they are (a name or a hash). An interrupted folder has no record and is written anew.
    Raises ValueError if the batches hold another number of pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    files: dict[tuple[str, str], np.memmap] = {}
    names: list[str] = []
    start = 0
    with torch.no_grad():
        for batch in batches:
            end = start + len(batch)
            if end > count:
                raise ValueError(f"the batches hold more than the {count} pictures that were announced")
            pixels = batch.float() / 255.0
            for side, images in zip(_SIDES, (pixels, pixels.flip(-1)), strict=True):
                maps = detector.trunk_features(images, precision)
                names = list(maps)
                for name, x in maps.items():
                    values = _stored(x, precision)
                    if (side, name) not in files:
                        shape = (count, *values.shape[1:])
                        files[side, name] = np.lib.format.open_memmap(
                            _file(folder, side, name), mode="w+", dtype=values.dtype, shape=shape
                        )
                    files[side, name][start:end] = values
            start = end
    if start < count:
        raise ValueError(f"the batches hold {start} pictures, {count} were announced")
    for file in files.values():
        file.flush()
    record = {"key": maps_key(detector, pictures, precision), "count": count, "maps": names}
    partial = folder / f"{RECORD}.part"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(partial, folder / RECORD)


def maps_key(detector: Detector, pictures: str, precision: Precision) -> str:
    """Return a hash of what decides the maps: the trunk's config and frozen weights, the pictures, the precision."""
    facts = [to_json(detector.config.trunk), detector.config.image_size, pictures, precision]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, parameter in detector.trunk.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode() + parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def bytes_per_number(precision: Precision) -> int:
    """Of a stored map: 2 in bfloat16, 4 in float32 or where that stands for bfloat16."""
    return 2 if precision == "bfloat16" and computes_bfloat16("cpu") else 4


def _file(folder: Path, side: str, name: str) -> Path:
    return folder / f"{side}-{name}.npy"


def _stored(x: Float[Tensor, "B C h w"], precision: Precision) -> Shaped[np.ndarray, "B C h w"]:
    """NumPy has no bfloat16: its bits are stored as integers."""
    x = x.contiguous()
    return (x.bfloat16().view(torch.int16) if bytes_per_number(precision) == 2 else x).numpy()


def _floats(values: Shaped[np.ndarray, "B C h w"]) -> Float[Tensor, "B C h w"]:
    x = torch.from_numpy(values)
    floats = x.view(torch.bfloat16).float() if x.dtype == torch.int16 else x
    return floats.contiguous(memory_format=torch.channels_last)
