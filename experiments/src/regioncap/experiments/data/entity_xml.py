"""Flickr30k Entities as it is published (Plummer et al. 2015): Annotations/NAME.xml and Sentences/NAME.txt."""

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import Any

from regioncap.experiments.data.dataset import DataError

ANNOTATIONS, SENTENCES = "Annotations", "Sentences"
_DIGITS = 4
"""Of a fraction: a twentieth of a pixel of 500."""


def entity_line(root: Path, name: str) -> dict[str, Any] | None:
    """What `entities.jsonl` says of a picture, from its two files; None if it has none.

    Boxes are inclusive pixels that count from 1: x0 = (xmin - 1) / width, x1 = xmax / width, inside the picture. A
    chain that is the whole scene, or has no box, is listed as such. Raises DataError naming the file that is not as
    wanted.
    """
    annotation, sentences = (
        root / folder / f"{Path(name).stem}{ending}" for folder, ending in ((ANNOTATIONS, ".xml"), (SENTENCES, ".txt"))
    )
    if not annotation.is_file() or not sentences.is_file():
        return None
    boxes: dict[str, list[list[float]]] = defaultdict(list)
    scene: list[str] = []
    no_box: list[str] = []
    try:
        tree = ElementTree.parse(annotation).getroot()
        width, height = (_number(tree, f"size/{side}") for side in ("width", "height"))
        for thing in tree.iter("object"):
            chains = [str(chain.text) for chain in thing.findall("name")]
            if thing.find("bndbox") is not None:
                box = _fractions(thing, width, height)
                for chain in chains if box else ():
                    boxes[chain].append(box)
            elif thing.findtext("scene") == "1":
                scene += chains
            elif thing.findtext("nobndbox") == "1":
                no_box += chains
    except (ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{annotation} is no annotation of Flickr30k Entities ({error}): restore it") from None
    lines = sentences.read_text(encoding="utf-8", errors="replace").split("\n")
    return {
        "image": name,
        "size": [width, height],
        "boxes": boxes,
        "scene": scene,
        "no_box": no_box,
        "sentences": [line.strip() for line in lines if line.strip()],
    }


def _fractions(thing: ElementTree.Element, width: int, height: int) -> list[float]:
    """x0 y0 x1 y1, or nothing for a box without an area inside the picture."""
    x0, y0, x1, y1 = (_number(thing, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
    edges = ((x0 - 1) / width, (y0 - 1) / height, x1 / width, y1 / height)
    box = [round(min(max(edge, 0.0), 1.0), _DIGITS) for edge in edges]
    return box if box[0] < box[2] and box[1] < box[3] else []


def _number(element: ElementTree.Element, path: str) -> int:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return int(text)
