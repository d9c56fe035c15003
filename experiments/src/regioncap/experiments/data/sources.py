"""From a preset's data config to a data set that has been read."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from regioncap.experiments.data.caption_form import CaptionFormConfig
from regioncap.experiments.data.caption_source import CaptionSource
from regioncap.experiments.data.coco import read_coco
from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.flickr30k import Flickr30kConfig
from regioncap.experiments.data.folder import FolderConfig
from regioncap.experiments.data.image_files import without_leaks
from regioncap.experiments.data.scenes import ScenesConfig, make_scenes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenesSource:
    """Procedural scenes, made where they are missing."""

    root: Path | None = None
    """A folder that holds scenes, or an empty one to make them in; None makes them in the cache."""
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    """Which scenes to make."""
    text: CaptionFormConfig = field(default_factory=CaptionFormConfig)
    """Whether captions are normalised (sec. 4.2)."""


PhotographSource = Flickr8kConfig | Flickr30kConfig | CocoConfig | FolderConfig
DataSource = ScenesSource | PhotographSource
DATA_KINDS: Mapping[str, type[DataSource]] = {
    "scenes": ScenesSource,
    "flickr8k": Flickr8kConfig,
    "flickr30k": Flickr30kConfig,
    "coco": CocoConfig,
    "folder": FolderConfig,
}
"""What `--data KIND` on the command line chooses from."""


def read_data(source: DataSource, cache: Path) -> CaptionData:
    """All splits of a data set, its captions in the form that `source.text` wants.

    Photographs are looked at once: that each is there, and in one split alone, is remembered in `cache`. Raises
    DataError naming the file or folder that cannot be used.
    """
    match source:
        case CaptionSource():
            data = without_leaks(source.read(), cache, leave_out=source.leaks == "leave-out")
        case ScenesSource(root=Path() as root) if (root / "annotations").is_dir():
            data = read_coco(root, name="scenes")
        case ScenesSource():
            digest = hashlib.sha256(json.dumps(asdict(source.scenes)).encode()).hexdigest()[:12]
            root = source.root or cache / "scenes" / digest
            data = make_scenes(source.scenes, root, workers=os.cpu_count() or 1)
    return source.text.apply(data)
