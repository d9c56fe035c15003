"""Captions without pictures: text that a decoder can learn its language from."""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import torch

from regioncap.experiments.data.dataset import DataError

CAPTION_FILES = "a text file with a caption a line ('name.jpg#0<TAB>caption' too), .jsonl or .csv with 'caption'"
_NAMED = re.compile(r"(?P<image>[^\t]+?)(?:#\d+)?\t(?P<caption>.*)")
_IMAGE_KEYS = ("image", "image_name", "image_id", "file_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionText:
    """The captions of a file, in its order."""

    images: tuple[str | None, ...]
    """The picture that each caption describes; None where the file does not say."""
    captions: tuple[str, ...]
    sha256: str
    """Of the file's bytes."""

    @property
    def names(self) -> Set[str]:
        """The pictures that the file names."""
        return {image for image in self.images if image is not None}

    def split(self, share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Captions to learn from, and those of about a `share` of the pictures, drawn by `seed`, to be tested on.

        Captions of one picture stay together, else what is learned from one would be tested on its paraphrase; a
        caption without picture goes by itself. The order of the file is kept. One picture is always held out.
        """
        groups = [image if image is not None else f"\n{i}" for i, image in enumerate(self.images)]
        distinct = list(dict.fromkeys(groups))
        if len(distinct) < 2:
            raise DataError("all captions of the text describe one picture: want two pictures, one to be tested on")
        order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed)).tolist()
        held = {distinct[i] for i in order[: min(max(1, round(share * len(distinct))), len(distinct) - 1)]}
        pairs = list(zip(groups, self.captions, strict=True))
        return (
            tuple(caption for group, caption in pairs if group not in held),
            tuple(caption for group, caption in pairs if group in held),
        )


def read_caption_text(path: Path) -> CaptionText:
    """Read a caption file; its ending says how: .jsonl, .csv, and anything else line by line.

    Lines without caption are passed over. Raises DataError if the file is missing, no UTF-8 text, of another form, or
    holds no caption.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {found}; wanted {CAPTION_FILES}")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start}); wanted {CAPTION_FILES}") from None
    if "\0" in text:
        raise DataError(f"{path} holds zero bytes, so it is no text; wanted {CAPTION_FILES}")
    read = _READERS.get(path.suffix.lower(), _lines)
    pairs = [(image, caption.strip()) for image, caption in read(path, text) if caption.strip()]
    if not pairs:
        raise DataError(f"{path} holds no caption; wanted {CAPTION_FILES}")
    images, captions = zip(*pairs, strict=True)
    return CaptionText(images=images, captions=captions, sha256=hashlib.sha256(raw).hexdigest())


def refuse_leaks(source: str, names: Set[str], splits: Mapping[str, Set[str]]) -> None:
    """Refuse text about pictures of another split than train. Raises DataError with how many and the first of them.

    A picture is known by its file name, whatever its folder.
    """
    known = {Path(name).name for name in names}
    for split, own in splits.items():
        shared = sorted(name for name in own if Path(name).name in known)
        if split != "train" and shared:
            raise DataError(
                f"{source} holds captions of {len(shared)} of the {split} split's {len(own)} pictures, the first is "
                f"'{shared[0]}': a decoder that learns from them is scored on what it has read; take their lines out"
            )


def _lines(path: Path, text: str) -> Iterator[tuple[str | None, str]]:
    for line in text.split("\n"):
        named = _NAMED.fullmatch(line.rstrip("\r"))
        yield (named["image"].strip(), named["caption"]) if named else (None, line)


def _json_lines(path: Path, text: str) -> Iterator[tuple[str | None, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: is no JSON ({error.msg}); want an object a line") from None
        if not isinstance(row, dict) or not isinstance(row.get("caption"), str):
            raise DataError(f'{path}, line {number}: has no caption; want {{"image": "a.jpg", "caption": "a dog"}}')
        yield _image(row), row["caption"]


def _table(path: Path, text: str) -> Iterator[tuple[str | None, str]]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if "caption" not in (rows.fieldnames or ()):
        found = ", ".join(map(repr, rows.fieldnames or ())) or "nothing"
        raise DataError(f"{path}: its first line names {found}; want columns 'caption' and, if known, 'image'")
    for row in rows:
        yield _image(row), row["caption"] or ""


def _image(row: Mapping[str, object]) -> str | None:
    return next((str(row[key]) for key in _IMAGE_KEYS if row.get(key) not in (None, "")), None)


_READERS: Mapping[str, Callable[[Path, str], Iterator[tuple[str | None, str]]]] = {
    ".jsonl": _json_lines,
    ".csv": _table,
}
