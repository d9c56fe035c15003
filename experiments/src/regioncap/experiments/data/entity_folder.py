"""The boxes and phrases of Flickr30k Entities in one form, whatever form the data set has them in.

Whoever reads them wants a folder with entities.jsonl, images/, train.txt and dev.txt. Flickr8k's layout is such a
folder; for the others one is made in the cache, its pictures being a link.
"""

import hashlib
import json
import shutil
from pathlib import Path

from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.entity_phrases import FILE
from regioncap.experiments.data.entity_xml import ANNOTATIONS, SENTENCES, entity_line
from regioncap.experiments.progress import track

_LISTS = {"train": "train", "dev": "dev", "val": "dev"}
"""Split -> the list it becomes. Test pictures have no business here."""


def entity_folder(data: CaptionData, cache: Path) -> Path:
    """The folder to read entities from; the data's own where it has none, so that whoever needs them says so.

    Published annotations are read once. Raises DataError naming one that is not as wanted.
    """
    listed = data.root / FILE
    if (data.root / "train.txt").is_file() or not (listed.is_file() or _published(data.root)):
        return data.root
    folder = cache / "entities" / _key(data)
    if not (folder / FILE).is_file():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        names = _write_lines(data, partial / FILE) if not listed.is_file() else _link_lines(listed, partial / FILE)
        for split, target in _LISTS.items():
            own = [image for image in data.splits.get(split, ()) if image.name in names]
            if own:
                (partial / f"{target}.txt").write_text("".join(f"{image.name}\n" for image in own), encoding="utf-8")
                pictures = partial / "images"
                if not pictures.is_symlink():
                    pictures.symlink_to(own[0].path.resolve().parents[len(Path(own[0].name).parts) - 1])
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def _published(root: Path) -> bool:
    return (root / ANNOTATIONS).is_dir() and (root / SENTENCES).is_dir()


def _write_lines(data: CaptionData, file: Path) -> set[str]:
    """Write a line for every picture but those of test; returns their names."""
    wanted = [image.name for split in _LISTS for image in data.splits.get(split, ())]
    names = set()
    with file.open("w", encoding="utf-8") as lines:
        for name in track(wanted, description="read Flickr30k Entities", total=len(wanted)):
            line = entity_line(data.root, name)
            if line is not None:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                names.add(name)
    return names


def _link_lines(source: Path, file: Path) -> set[str]:
    file.symlink_to(source.resolve())
    with source.open(encoding="utf-8") as lines:
        return {str(json.loads(line)["image"]) for line in lines if line.strip()}


def _key(data: CaptionData) -> str:
    """A digest of the pictures of each list, and of when the annotations changed last."""
    digest = hashlib.sha256(str(data.root.resolve()).encode())
    for place in (FILE, ANNOTATIONS, SENTENCES):
        if (data.root / place).exists():
            digest.update(f"{place} {(data.root / place).stat().st_mtime_ns}".encode())
    for split in _LISTS:
        digest.update(json.dumps([split, *(image.name for image in data.splits.get(split, ()))]).encode())
    return digest.hexdigest()[:16]
