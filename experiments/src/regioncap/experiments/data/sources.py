"""From a preset's data config to a data set that has been read."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from regioncap.experiments.data.coco import read_coco
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.scenes import ScenesConfig, make_scenes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenesSource:
    """Procedural scenes, made where they are missing."""

    root: Path | None = None
    """A folder that holds scenes, or an empty one to make them in; None makes them in the cache."""
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    """Which scenes to make."""


def read_data(source: ScenesSource | Flickr8kConfig, cache: Path) -> CaptionData:
    """All splits of a data set. Raises DataError naming the file or folder that cannot be used."""
    match source:
        case Flickr8kConfig():
            return source.read()
        case ScenesSource(root=Path() as root) if (root / "annotations").is_dir():
            return read_coco(root, name="scenes")
        case ScenesSource():
            digest = hashlib.sha256(json.dumps(asdict(source.scenes)).encode()).hexdigest()[:12]
            root = source.root or cache / "scenes" / digest
            return make_scenes(source.scenes, root, workers=os.cpu_count() or 1)
