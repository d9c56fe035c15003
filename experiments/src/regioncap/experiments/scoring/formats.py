"""Caption files as they lie on disk: which format a file has, and what it says, before anything is matched.

COCO annotations   {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}      references
Karpathy's JSON    {"images": [{"filename", "filepath", "cocoid", "split", "sentences": [{"raw"}]}]} references
COCO results       [{"image_id", "caption"}]                                                        predictions
JSON lines         {"image", "caption", "references"}, a line an image: either, or both at once
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["annotations", "karpathy", "captions", "references", "captions and references"]
"""The last three are rows (a JSON list or JSON lines), named by what their first row holds."""

NAMES: dict[Kind, str] = {
    "annotations": "COCO annotations",
    "karpathy": "Karpathy's JSON",
    "captions": "captions to be scored",
    "references": "rows of references",
    "captions and references": "rows of captions and references",
}

_WANTED = (
    'wanted are COCO annotations {"images", "annotations"}, COCO results [{"image_id", "caption"}], '
    'Karpathy\'s JSON {"images": [{"filename", "split", "sentences"}]} or JSON lines {"image", "caption", "references"}'
)


class CaptionFileError(ValueError):
    """A caption file cannot be used; the message names the file, what is wrong with it and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionFile:
    """A file's content and what kind it is of."""

    path: Path
    kind: Kind
    content: Any
    """A list of rows for the three kinds of rows, else the JSON object."""

    @property
    def has_references(self) -> bool:
        """Whether it can serve as references."""
        return self.kind != "captions"

    @property
    def has_captions(self) -> bool:
        """Whether it can serve as predictions."""
        return self.kind in ("captions", "captions and references")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image of a file of rows."""

    where: str
    """The row in words, for errors."""
    image: str
    by_id: bool
    """Whether the row names its image by `image_id`."""
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedImage:
    """One image of a file of references."""

    where: str
    """Where in the file, for errors."""
    name: str
    """The picture's file name where the file tells it, else the id."""
    id: str | None
    picture: str
    """Path of the picture inside a folder of pictures."""
    split: str | None
    """None in formats without splits."""
    references: tuple[str, ...]


def load(path: Path) -> CaptionFile:
    """Read a caption file and recognise its format.

    Raises CaptionFileError if it is missing, no whole JSON, in no known format, or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CaptionFileError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise CaptionFileError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise CaptionFileError(f"{path} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise CaptionFileError(f"{path} is empty: it holds no captions at all")
    content = _parse(path, text)
    if isinstance(content, dict) and ("image" in content or "image_id" in content):
        content = [content]  # a single JSON line
    return CaptionFile(path=path, kind=_kind(path, content), content=content)


def rows(file: CaptionFile) -> Iterator[Row]:
    """The rows of a list or of JSON lines. Raises CaptionFileError at a row without an image."""
    for number, content in enumerate(file.content, 1):
        where = f"{file.path}, entry {number}"
        by_id = isinstance(content, dict) and "image_id" in content
        image = content.get("image_id" if by_id else "image") if isinstance(content, dict) else None
        if isinstance(image, bool) or not isinstance(image, str | int) or image == "":
            found = json.dumps(content, ensure_ascii=False)[:80]
            raise CaptionFileError(f'{where} names no image: want "image_id" or "image", got {found}')
        yield Row(where=where, image=str(image), by_id=by_id, content=content)


def annotated_images(file: CaptionFile) -> Iterator[AnnotatedImage]:
    """The images of a file of references, in its order. Raises CaptionFileError at an entry that is not as wanted."""
    try:
        match file.kind:
            case "annotations":
                yield from _coco(file)
            case "karpathy":
                yield from _karpathy(file)
            case _:
                yield from _referenced_rows(file)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CaptionFileError(f"{file.path}, read as {NAMES[file.kind]}: an entry is not as wanted ({what})") from None


def training_captions(path: Path) -> list[str]:
    """All captions of a file of references; of Karpathy's JSON those of train and restval.

    Raises CaptionFileError if it holds none.
    """
    file = load(path)
    if not file.has_references:
        raise CaptionFileError(f"{path} holds {NAMES[file.kind]}, that is predictions; want the captions of training")
    images = [image for image in annotated_images(file) if image.split in (None, "train", "restval")]
    captions = [caption for image in images for caption in image.references]
    if not captions:
        raise CaptionFileError(f"{path} holds no captions of images to train on")
    return captions


def text_of(value: object, where: str, what: str) -> str:
    """A caption. Raises CaptionFileError if it is no text, or holds half a character as a wrongly cut text does."""
    if not isinstance(value, str):
        raise CaptionFileError(f"{where}: {what} must be a text, got {json.dumps(value, ensure_ascii=False)[:60]}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CaptionFileError(f"{where}: {what} is no valid Unicode: {json.dumps(value)[:60]}") from None
    return value


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_hook=_without_tokens)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _parse_lines(path, text)
        raise _broken(path, error, error.lineno) from None


def _parse_lines(path: Path, text: str) -> list[Any]:
    content = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                content.append(json.loads(line, object_hook=_without_tokens))
            except json.JSONDecodeError as error:
                raise _broken(path, error, number) from None
    return content


def _without_tokens(entry: dict[str, Any]) -> dict[str, Any]:
    """Karpathy's JSON repeats every caption as tokens: most of its size in memory."""
    entry.pop("tokens", None)
    return entry


def _broken(path: Path, error: json.JSONDecodeError, line: int) -> CaptionFileError:
    return CaptionFileError(
        f"{path} is no whole JSON: {error.msg} at line {line}, column {error.colno}; it may have been cut off"
    )


def _kind(path: Path, content: Any) -> Kind:
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        if any(isinstance(entry, dict) and "caption" not in entry for entry in content["annotations"][:1]):
            raise CaptionFileError(
                f"{path} has annotations without captions, such as boxes; want COCO's captions_*.json"
            )
        return "annotations"
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        if any(isinstance(image, dict) and "sentences" in image for image in content["images"][:1]):
            return "karpathy"
        raise CaptionFileError(f"{path} lists images without captions; {_WANTED}")
    if isinstance(content, list):
        return _kind_of_rows(path, content)
    raise CaptionFileError(f"{path} is in no format of captions; {_WANTED}")


def _kind_of_rows(path: Path, content: list[Any]) -> Kind:
    if not content:
        raise CaptionFileError(f"{path} holds no captions at all")
    first = content[0] if isinstance(content[0], dict) else {}
    match "caption" in first, "references" in first:
        case True, True:
            return "captions and references"
        case True, False:
            return "captions"
        case False, True:
            return "references"
    raise CaptionFileError(f'{path}: its first entry has neither "caption" nor "references"; {_WANTED}')


def _coco(file: CaptionFile) -> Iterator[AnnotatedImage]:
    references: dict[str, list[str]] = {str(image["id"]): [] for image in file.content.get("images", [])}
    listed = bool(references)
    for number, annotation in enumerate(file.content["annotations"], 1):
        where, image = f"{file.path}, annotation {number}", str(annotation["image_id"])
        if listed and image not in references:
            raise CaptionFileError(f'{where} is of image {image}, which is not among its "images"')
        references.setdefault(image, []).append(text_of(annotation["caption"], where, "the caption"))
    names = {str(image["id"]): image.get("file_name") for image in file.content.get("images", [])}
    order = [str(image["id"]) for image in file.content.get("images", [])] or list(references)
    for image in order:
        name = str(names.get(image) or image)
        yield AnnotatedImage(
            where=f"{file.path}, image {image}",
            name=name,
            id=image,
            picture=name,
            split=None,
            references=tuple(references[image]),
        )


def _karpathy(file: CaptionFile) -> Iterator[AnnotatedImage]:
    for number, image in enumerate(file.content["images"], 1):
        where = f"{file.path}, image {number}"
        name, identity = image.get("filename"), image.get("cocoid", image.get("imgid"))
        if name is None and identity is None:
            raise CaptionFileError(f'{where} has neither "filename" nor "cocoid" nor "imgid"')
        name = str(identity if name is None else name)
        folder = image.get("filepath")
        yield AnnotatedImage(
            where=where,
            name=name,
            id=None if identity is None else str(identity),
            picture=f"{folder}/{name}" if folder else name,
            split=str(image["split"]),
            references=tuple(text_of(entry["raw"], where, "a sentence") for entry in image["sentences"]),
        )


def _referenced_rows(file: CaptionFile) -> Iterator[AnnotatedImage]:
    for row in rows(file):
        group = row.content.get("references")
        if not isinstance(group, list):
            raise CaptionFileError(f"{row.where} (image '{row.image}'): \"references\" must be a list of captions")
        yield AnnotatedImage(
            where=row.where,
            name=row.image,
            id=row.image if row.by_id else None,
            picture=row.image,
            split=None,
            references=tuple(text_of(text, row.where, "a reference") for text in group),
        )
