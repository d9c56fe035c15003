"""Captions of pictures as CSV, JSON or JSON lines: columns image, caption and, if known, split.

image,caption,split            [{"image": "a.jpg", "caption": "A dog.", "split": "train"}, ...]
a.jpg,A dog.,train             {"a.jpg": ["A dog.", "One dog."], ...}
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regioncap.experiments.data.dataset import DataError

FORMS = (
    "a .csv with columns image, caption[, split], a .json with a list of such objects or {image: captions}, a .jsonl"
)
_IMAGE = ("image", "image_name", "file_name", "filename", "image_id", "name")
_CAPTION = ("caption", "captions", "comment", "sentences", "references", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One picture as one row has it."""

    image: str
    captions: tuple[str, ...]
    split: str
    """"" where the table does not say."""


def read_caption_table(file: Path) -> list[TableRow]:
    """The rows, in order. Raises DataError naming the file, and the row that is not as wanted."""
    if not file.is_file():
        raise DataError(f"{file} is missing: wanted is {FORMS}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    read = {".json": _json, ".jsonl": _json_lines}.get(file.suffix.lower(), _csv)
    rows = [_row(file, where, values) for where, values in read(file, text)]
    if not rows:
        raise DataError(f"{file} holds no row: wanted is {FORMS}")
    return rows


def _csv(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    header, _, _ = text.partition("\n")
    delimiter = next((sign for sign in "|\t;," if sign in header), ",")
    # Flickr30k's results.csv, whose captions hold quotation marks of their own, puts bars between columns.
    table = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=True,
        quoting=csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL,
    )
    names = [(name or "").strip() for name in table.fieldnames or ()]
    if not set(_IMAGE) & set(names) or not set(_CAPTION) & set(names):
        raise DataError(f"{file}: its first line names {', '.join(names) or 'nothing'}; wanted is {FORMS}")
    table.fieldnames = names
    for values in table:
        yield f"line {table.line_num}", {key: (value or "").strip() for key, value in values.items() if key in names}


def _json(file: Path, text: str) -> Iterable[tuple[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{file} is no JSON ({error}): correct it") from None
    if isinstance(content, dict):
        return [(f"'{name}'", {"image": name, "captions": captions}) for name, captions in content.items()]
    if isinstance(content, list):
        return [(f"entry {number}", values) for number, values in enumerate(content)]
    raise DataError(f"{file} holds a {type(content).__name__}: wanted is {FORMS}")


def _json_lines(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}, line {number}: is no JSON ({error}); want an object a line") from None


def _row(file: Path, where: str, values: Any) -> TableRow:
    if not isinstance(values, dict):
        raise DataError(f"{file}, {where}: holds a {type(values).__name__}; wanted is {FORMS}")
    image = next((values[key] for key in _IMAGE if values.get(key) not in (None, "")), None)
    said = next((values[key] for key in _CAPTION if values.get(key) is not None), None)
    captions = [said] if isinstance(said, str) else said
    if image is None or not isinstance(captions, list) or any(not isinstance(text, str) for text in captions):
        raise DataError(f"{file}, {where}: has no image or no caption; wanted is {FORMS}")
    return TableRow(
        image=str(image), captions=tuple(text.strip() for text in captions), split=str(values.get("split") or "")
    )
