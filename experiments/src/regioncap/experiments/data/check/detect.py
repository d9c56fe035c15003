"""Which kind of data set a folder holds, by the files that lie in it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entity_xml import ANNOTATIONS, SENTENCES
from regioncap.experiments.data.flickr8k import Flickr8kConfig, lists_in
from regioncap.experiments.data.flickr30k import KARPATHY, Flickr30kConfig
from regioncap.experiments.data.folder import CAPTION_FILES, FolderConfig
from regioncap.experiments.data.sources import DATA_KINDS, DataSource, ScenesSource


def detect(root: Path) -> DataSource:
    """The source for a folder, `root` in it. Raises DataError that says what would be recognised."""
    if not root.is_dir():
        raise DataError(f"{root} {'is a file' if root.exists() else 'does not exist'}: name the folder of a data set")
    for holds in _RULES.values():
        source = holds(root)
        if source is not None:
            return replace(source, root=root)
    raise DataError(
        f"{root} holds no data set that is recognised by its files: say which it is (--data "
        f"{', '.join(DATA_KINDS)}) and what its files are called"
    )


def kind_of(source: DataSource) -> str:
    """The name of a source's kind."""
    return next(kind for kind, config in DATA_KINDS.items() if isinstance(source, config))


def _coco(root: Path) -> DataSource | None:
    annotations = root / "annotations"
    if any((folder / "dataset_coco.json").is_file() for folder in (root, annotations)):
        return CocoConfig()
    if (annotations / "captions_train2014.json").is_file():
        return CocoConfig(splits="paper")
    return CocoConfig(splits="2017") if (annotations / "captions_train2017.json").is_file() else None


def _flickr30k(root: Path) -> DataSource | None:
    if (root / KARPATHY).is_file():
        return Flickr30kConfig()
    published = (root / ANNOTATIONS).is_dir() and (root / SENTENCES).is_dir()
    return Flickr30kConfig(splits="paper") if published or (root / "results_20130124.token").is_file() else None


def _flickr8k(root: Path) -> DataSource | None:
    return Flickr8kConfig() if lists_in(root) else None


def _scenes(root: Path) -> DataSource | None:
    return ScenesSource() if any((root / "annotations").glob("captions_*.json")) else None


def _folder(root: Path) -> DataSource | None:
    return FolderConfig() if any((root / name).is_file() for name in CAPTION_FILES) else None


_RULES: Mapping[str, Callable[[Path], DataSource | None]] = {
    "flickr8k": _flickr8k,
    "flickr30k": _flickr30k,
    "coco": _coco,
    "scenes": _scenes,
    "folder": _folder,
}
"""In the order they are asked: a folder with lists of names is what these make of it, whatever else it holds."""
