"""Procedural pictures with boxes and captions, written once to disk in the COCO format."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

from regioncap.experiments.data.coco import read_coco
from regioncap.experiments.data.dataset import CaptionData, DataError
from regioncap.experiments.data.scenes.backdrop import draw_scene
from regioncap.experiments.data.scenes.language import captions
from regioncap.experiments.data.scenes.layout import sample_scene
from regioncap.experiments.data.scenes.world import ACTORS, KINDS, SIZE, Pair, Scene

VERSION = 1
"""Of the pictures and the format on disk; a folder of another version is not taken for this one."""

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenesConfig:
    """Which scenes to make. The same config gives the same bytes on every run, whatever the number of workers."""

    train: int = 1600
    """Pictures to learn from."""
    val: int = 400
    """Pictures for every choice that is made."""
    test: int = 400
    """Pictures for `evaluate` alone."""
    seed: int = 0
    """Another seed gives other scenes throughout."""
    fewest_things: int = 9
    """Objects in a picture, at least."""
    most_things: int = 13
    """Objects in a picture, at most."""

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"scenes.{name} must be at least 1 picture, got {getattr(self, name)}")
        if not 6 <= self.fewest_things <= self.most_things <= 14:
            raise ValueError(
                "scenes need 6 <= fewest_things <= most_things <= 14 for distractors that still find room, "
                f"got {self.fewest_things} and {self.most_things}"
            )


def scenes_of(config: ScenesConfig, split: str) -> Iterator[Scene]:
    """The facts of a split's scenes, in the order of their pictures, without drawing them."""
    for index in range(getattr(config, split)):
        yield _scene(config, split, index)


def captions_of(config: ScenesConfig, split: str) -> Iterator[tuple[str, ...]]:
    """The five captions of each picture of a split, in order."""
    for index, scene in enumerate(scenes_of(config, split)):
        yield _captions(config, split, index, scene)


def make_scenes(
    config: ScenesConfig, root: Path, *, workers: int = 1, report: Callable[[int, int], None] | None = None
) -> CaptionData:
    """The scenes under `root`, made now unless they already are there.

    They are written to a folder beside `root` that takes its name only when all is there, so that a killed run leaves
    nothing that could be taken for a data set. `report` gets pictures done and pictures in all.
    Raises DataError if `root` holds something else: other scenes, or no scenes at all.
    """
    if not _is_made(config, root):
        root.parent.mkdir(parents=True, exist_ok=True)
        partial_root = Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
        try:
            _write(config, partial_root, workers, report or _silent)
            partial_root.chmod(0o755)
            _take_name(config, partial_root, root)
        finally:
            shutil.rmtree(partial_root, ignore_errors=True)
    return read_coco(root, name="scenes")


def _is_made(config: ScenesConfig, root: Path) -> bool:
    """Whether these very scenes are there; False only if nothing is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    manifest = root / _MANIFEST
    way_out = "delete the folder to have it made again, or name another one"
    try:
        found = json.loads(manifest.read_text())
    except FileNotFoundError:
        raise DataError(
            f"{root} is not empty and has no {_MANIFEST}, so it holds no finished scenes; {way_out}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{manifest} cannot be read ({error}); {way_out}") from None
    if found != _manifest(config):
        raise DataError(f"{manifest} says {found}, wanted are {_manifest(config)}; {way_out}")
    return True


def _take_name(config: ScenesConfig, partial_root: Path, root: Path) -> None:
    try:
        os.rename(partial_root, root)
    except OSError:
        # Another process finished the same scenes first.
        if not _is_made(config, root):
            raise


def _manifest(config: ScenesConfig) -> dict[str, Any]:
    return {"data": "regioncap scenes", "version": VERSION, **asdict(config)}


def _write(config: ScenesConfig, root: Path, workers: int, report: Callable[[int, int], None]) -> None:
    total, done = config.train + config.val + config.test, 0
    (root / "annotations").mkdir()
    # Fresh interpreters: a fork of a process that runs torch's threads can hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else None
    try:
        for split in ("train", "val", "test"):
            folder = root / "images" / split
            folder.mkdir(parents=True)
            make = partial(_make_one, config, split, folder)
            indices = range(getattr(config, split))
            records = []
            for record in pool.map(make, indices, chunksize=16) if pool else map(make, indices):
                records.append(record)
                done += 1
                report(done, total)
            _write_annotations(root / "annotations", split, records)
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    (root / _MANIFEST).write_text(json.dumps(_manifest(config), indent=1) + "\n")


def _make_one(config: ScenesConfig, split: str, folder: Path, index: int) -> tuple[Scene, tuple[str, ...]]:
    scene = _scene(config, split, index)
    picture = draw_scene(scene, Random(f"{config.seed}/{split}/{index}/paint"))
    # No chroma subsampling: colours are what the captions speak about.
    picture.save(folder / _file_name(split, index), quality=92, subsampling=0)
    return scene, _captions(config, split, index, scene)


def _captions(config: ScenesConfig, split: str, index: int, scene: Scene) -> tuple[str, ...]:
    return captions(scene, Random(f"{config.seed}/{split}/{index}/speech"))


def _scene(config: ScenesConfig, split: str, index: int) -> Scene:
    # A generator of its own for every picture and purpose: bytes depend on no order and no neighbour.
    rng = Random(f"{config.seed}/{split}/{index}/scene")
    return sample_scene(rng, rng.randint(config.fewest_things, config.most_things))


def _file_name(split: str, index: int) -> str:
    return f"{split}_{index:06d}.jpg"


def _write_annotations(folder: Path, split: str, records: list[tuple[Scene, tuple[str, ...]]]) -> None:
    """`captions_*.json` as COCO has it, and `instances_*.json` with the facts of the scene as further keys."""
    images = [{"id": i, "file_name": _file_name(split, i), "width": SIZE, "height": SIZE} for i in range(len(records))]
    spoken = [(i, text) for i, (_, texts) in enumerate(records) for text in texts]
    said = [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(spoken)]
    boxes: list[dict[str, Any]] = []
    facts = []
    for image, (scene, _) in zip(images, records, strict=True):
        first = len(boxes)
        for thing in scene.things:
            x0, y0, x1, y1 = (round(side, 2) for side in thing.box)
            box = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
            boxes.append(
                {
                    "id": len(boxes),
                    "image_id": image["id"],
                    "category_id": KINDS.index(thing.kind) + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "attributes": {"colour": thing.colour, "pattern": thing.pattern},
                }
            )
        pairs = {"main": _pair_record(scene.main, first)}
        if scene.second is not None:
            pairs["second"] = _pair_record(scene.second, first)
        facts.append({**image, "place": scene.place, "light": scene.light, **pairs})
    categories = [
        {"id": i + 1, "name": kind, "supercategory": "actor" if kind in ACTORS else "thing"}
        for i, kind in enumerate(KINDS)
    ]
    (folder / f"captions_{split}.json").write_text(json.dumps({"images": images, "annotations": said}))
    instances = {"images": facts, "annotations": boxes, "categories": categories}
    (folder / f"instances_{split}.json").write_text(json.dumps(instances))


def _pair_record(pair: Pair, first: int) -> dict[str, Any]:
    """A pair by the ids of its annotations."""
    return {"subject": first + pair.subject, "relation": pair.relation, "landmark": first + pair.landmark}


def _silent(done: int, total: int) -> None:
    """The report of a caller who wants none."""
