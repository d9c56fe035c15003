"""Find the store of given pictures and encoder, or say why there is none."""

from collections.abc import Mapping
from pathlib import Path

from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.extract import BOOK, SHARD_SIZE
from regioncap.encoders.store.fingerprint import fingerprint
from regioncap.encoders.store.manifest import MANIFEST, Manifest, read_manifest
from regioncap.encoders.store.plan import Plan, make_plan
from regioncap.encoders.store.reader import FeatureStore, open_store

_TOLD = 3


def find_store(
    pictures: Mapping[str, Path], encoder: ImageEncoder, root: Path, name: str, *, shard_size: int = SHARD_SIZE
) -> FeatureStore:
    """Open the store that `extract` with the same arguments wrote.

    Raises StoreError that says what differs from the stores of that name that are there: the encoder's settings,
    weights or preprocessing, or the pictures.
    """
    if not root.is_dir():
        raise StoreError(f"{root} is no folder: give the folder that the extraction wrote")
    plan = make_plan(name, fingerprint(encoder), pictures, root / BOOK, shard_size=shard_size, threads=1)
    if (root / plan.folder / MANIFEST).exists():
        return open_store(root / plan.folder)
    if (root / plan.folder).exists():
        raise StoreError(f"the extraction of {name} into {root / plan.folder} has not come to its end: run it again")
    others = [folder for folder in sorted(root.glob(f"{name}-*")) if (folder / MANIFEST).exists()]
    if not others:
        there = sorted(file.parent.name for file in root.glob(f"*/{MANIFEST}"))
        raise StoreError(f"{root} has no features of {name}; it has {', '.join(there) or 'none at all'}")
    reasons = [f"{folder.name}: {_difference(read_manifest(folder), plan)}" for folder in others[:_TOLD]]
    raise StoreError(f"{root} has features of {name}, but not these ({'; '.join(reasons)}): extract them")


def _difference(found: Manifest, plan: Plan) -> str:
    """What makes a store another one than was asked for."""
    encoder = found.encoder.difference(plan.encoder)
    if encoder:
        return f"another encoder, {encoder}"
    there, wanted = (
        {name: digest for name, _, digest in found.images},
        {name: digest for name, _, digest in plan.images},
    )
    new = [name for name in wanted if name not in there]
    gone = [name for name in there if name not in wanted]
    changed = [name for name in wanted if name in there and wanted[name] != there[name]]
    told = [
        f"{len(names)} {what}, {names[0]} first"
        for what, names in (("pictures are new", new), ("are gone", gone), ("have changed", changed))
        if names
    ]
    return ", ".join(told) or "the same pictures in another order or other shards"
