"""Boxes with classes and attributes: what a detector learns from, and their one format on disk, COCO's.

    {"images":      [{"id", "file_name", "width", "height"}],
     "categories":  [{"id", "name", "supercategory"}],
     "annotations": [{"image_id", "category_id", "bbox": [x, y, w, h], "iscrowd",
                      "attributes": {"colour": ["black", "white"], "size": "large"}}],
     "attributes":  [{"name", "group"}]}

Attributes are ours and optional; without the last list, they are those that the annotations name. Boxes are in pixels
of the `width` and `height` beside the file name, which need not be those of the file on disk: a picture that was
squeezed later keeps its boxes.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from regioncap.experiments.data.dataset import DataError

_Box = tuple[float, float, float, float]
FORMAT = "wanted is COCO's format for boxes: an object with the lists images, annotations, categories"
_TOLERANCE = 1.0
"""Pixels that a box may stand out of its picture: annotation tools round outwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedImage:
    """One picture and its objects."""

    name: str
    path: Path
    width: int
    height: int
    boxes: tuple[_Box, ...]
    """x0 y0 x1 y1 in pixels."""
    labels: tuple[int, ...]
    """Per box, an index into `BoxData.classes`."""
    attributes: tuple[tuple[int, ...], ...]
    """Per box, indices into `BoxData.attributes`. Those that are not named are unknown, not absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxData:
    """What a detector learns from: one split with its classes."""

    classes: tuple[str, ...]
    images: tuple[BoxedImage, ...]
    types: tuple[str, ...] = ()
    """Per class its kind (COCO's supercategory), "" where none is given; empty if none has one."""
    attributes: tuple[str, ...] = ()
    attribute_groups: tuple[str, ...] = ()
    """Per attribute its group: colour, size, material, ..."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Why annotations were left out -> how many."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def count(self) -> int:
        """How many boxes there are."""
        return sum(len(image.boxes) for image in self.images)


def read_box_file(file: Path, pictures: Path) -> BoxData:
    """The objects that a COCO file names, the pictures lying in the folder `pictures`.

    Crowds and boxes without an area, of which COCO itself has some, are left out and counted in `skipped`. Raises
    DataError, one line that names the file, for anything else: no JSON, a missing picture, a class that is not in the
    list, a box outside its picture.
    """
    content = _read(file)
    try:
        data = _understand(content, file, pictures)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{file} is not in the COCO format: an entry is not as wanted ({reason})") from None
    _refuse_absent(file, pictures, data.images)
    return data


def write_box_file(data: BoxData, file: Path) -> None:
    """Write what `read_box_file` reads."""
    annotations: list[dict[str, object]] = []
    for number, image in enumerate(data.images):
        for row, ((x0, y0, x1, y1), label) in enumerate(zip(image.boxes, image.labels, strict=True)):
            entry: dict[str, object] = {
                "id": len(annotations) + 1,
                "image_id": number + 1,
                "category_id": label + 1,
                "bbox": [round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)],
                "area": round((x1 - x0) * (y1 - y0), 2),
                "iscrowd": 0,
            }
            if image.attributes:
                own: dict[str, list[str]] = {}
                for x in image.attributes[row]:
                    own.setdefault(data.attribute_groups[x], []).append(data.attributes[x])
                entry["attributes"] = own
            annotations.append(entry)
    types = data.types or ("",) * len(data.classes)
    content: dict[str, object] = {
        "images": [
            {"id": i + 1, "file_name": image.name, "width": image.width, "height": image.height}
            for i, image in enumerate(data.images)
        ],
        "categories": [
            {"id": i + 1, "name": name, "supercategory": own}
            for i, (name, own) in enumerate(zip(data.classes, types, strict=True))
        ],
        "annotations": annotations,
        "attributes": [
            {"name": name, "group": group} for name, group in zip(data.attributes, data.attribute_groups, strict=True)
        ],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    partial.replace(file)


def align(data: BoxData, to: BoxData, what: str) -> BoxData:
    """The same boxes with the classes and attributes of `to`, in its order.

    Attributes that `to` does not know are dropped. Raises DataError for a class that it does not know; `what` names
    the data there.
    """
    unknown = [data.classes[x] for image in data.images for x in image.labels if data.classes[x] not in to.classes]
    if unknown:
        raise DataError(
            f"{what} has boxes of the class {unknown[0]!r}, which the training boxes do not know; they know "
            f"{', '.join(to.classes[:8])}{', ...' if len(to.classes) > 8 else ''}"
        )
    label = {name: i for i, name in enumerate(to.classes)}
    column = {pair: i for i, pair in enumerate(zip(to.attribute_groups, to.attributes, strict=True))}
    own = list(zip(data.attribute_groups, data.attributes, strict=True))
    images = tuple(
        replace(
            image,
            labels=tuple(label[data.classes[x]] for x in image.labels),
            attributes=tuple(
                tuple(sorted(column[own[x]] for x in said if own[x] in column)) for said in image.attributes
            ),
        )
        for image in data.images
    )
    return replace(to, images=images, skipped=data.skipped)


def _understand(content: Mapping[str, Any], file: Path, pictures: Path) -> BoxData:
    categories = sorted(content["categories"], key=lambda entry: entry["id"])
    label = {entry["id"]: i for i, entry in enumerate(categories)}
    images = {entry["id"]: entry for entry in content["images"]}
    said = [_pairs(entry.get("attributes", {})) for entry in content["annotations"]]
    if "attributes" in content:
        known = [(entry["group"], entry["name"]) for entry in content["attributes"]]
    else:
        known = sorted({pair for own in said for pair in own})
    column = {pair: i for i, pair in enumerate(known)}
    found: dict[Any, list[tuple[_Box, int, tuple[int, ...]]]] = defaultdict(list)
    skipped: Counter[str] = Counter()
    for number, (entry, own) in enumerate(zip(content["annotations"], said, strict=True)):
        where = f"{file}, annotation {number} is not in the COCO format"
        if entry.get("iscrowd", 0):
            skipped["crowd"] += 1
            continue
        if entry["image_id"] not in images:
            raise DataError(f"{where}: image_id {entry['image_id']!r} is not in the list of images; correct it")
        if entry["category_id"] not in label:
            raise DataError(
                f"{where}: category_id {entry['category_id']!r} is none of the {len(label)} categories; add it to the "
                "list or take the annotation out"
            )
        unknown = [pair for pair in own if pair not in column]
        if unknown:
            group, name = unknown[0]
            raise DataError(f"{where}: {group} {name!r} is none of the {len(column)} attributes in the list")
        box = _corners(entry["bbox"], images[entry["image_id"]], where)
        if box is None:
            skipped["box without area"] += 1
            continue
        words = tuple(sorted(column[pair] for pair in own))
        found[entry["image_id"]].append((box, label[entry["category_id"]], words))
    types = tuple(entry.get("supercategory", "") for entry in categories)
    return BoxData(
        classes=tuple(entry["name"] for entry in categories),
        images=tuple(
            BoxedImage(
                name=entry["file_name"],
                path=pictures / entry["file_name"],
                width=entry["width"],
                height=entry["height"],
                boxes=tuple(box for box, _, _ in found[number]),
                labels=tuple(own for _, own, _ in found[number]),
                attributes=tuple(own for _, _, own in found[number]),
            )
            for number, entry in images.items()
        ),
        types=types if any(types) else (),
        attributes=tuple(name for _, name in known),
        attribute_groups=tuple(group for group, _ in known),
        skipped=dict(skipped),
    )


def _pairs(attributes: Mapping[str, str | list[str]]) -> list[tuple[str, str]]:
    """(group, word) of {group: word or list of words}."""
    return [
        (group, word) for group, words in attributes.items() for word in ([words] if isinstance(words, str) else words)
    ]


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file} is missing; {FORMAT}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is no readable JSON ({error}); restore or delete it") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} holds a {type(content).__name__}; {FORMAT}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{file} has no list {key!r}; {FORMAT}")
    return content


def _corners(bbox: Any, image: Mapping[str, Any], where: str) -> _Box | None:
    """x0 y0 x1 y1, or None for a box without an area."""
    x, y, width, height = map(float, bbox)
    if not all(map(math.isfinite, (x, y, width, height))) or width < 0 or height < 0:
        raise DataError(f"{where}: bbox {bbox} is none; wanted are x, y, width and height in pixels")
    x1, y1 = x + width, y + height
    if min(x, y) < -_TOLERANCE or x1 > image["width"] + _TOLERANCE or y1 > image["height"] + _TOLERANCE:
        size = f"{image['width']}x{image['height']}"
        raise DataError(f"{where}: bbox {bbox} leaves its picture {image['file_name']} of {size} pixels; correct it")
    box = max(x, 0.0), max(y, 0.0), min(x1, float(image["width"])), min(y1, float(image["height"]))
    return box if box[0] < box[2] and box[1] < box[3] else None


def _refuse_absent(file: Path, pictures: Path, images: tuple[BoxedImage, ...]) -> None:
    if not images:
        raise DataError(f"{file} lists no image; {FORMAT}")
    if not pictures.is_dir():
        raise DataError(f"the pictures of {file} are missing: no folder {pictures}")
    present = {str(path.relative_to(pictures)) for path in pictures.rglob("*") if path.is_file()}
    absent = [image for image in images if image.name not in present]
    if absent:
        raise DataError(
            f"{absent[0].path} is missing ({len(absent)} of the {len(images)} pictures of {file} are): put it there, "
            "or name the folder of the pictures"
        )
