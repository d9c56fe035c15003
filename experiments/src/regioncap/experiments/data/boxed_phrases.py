"""Human boxes with the phrases that people call them by, from Flickr30k Entities (`entities.jsonl`)."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entity_phrases import FILE, PHRASE


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedPhrases:
    """One human box."""

    box: tuple[float, float, float, float]
    """x0 y0 x1 y1 as fractions of the image."""
    phrases: tuple[str, ...]
    """What the sentences of its image call it: "a child", "a girl in pink"."""


def read_boxed_phrases(
    root: Path, names: Collection[str], form: Callable[[str], str] = str
) -> Mapping[str, tuple[BoxedPhrases, ...]]:
    """The boxes of the named pictures; of other lines the name alone is looked at. Boxes without a phrase are left out.

    `form` is what training makes of a text.
    Raises DataError naming the file if it is missing, and the line that is not as wanted.
    """
    file, wanted = root / FILE, set(names)
    if not file.is_file():
        raise DataError(f"{file} is missing: wanted are human boxes with their phrases, one line a picture")
    found: dict[str, tuple[BoxedPhrases, ...]] = {}
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            name = str(line["image"])
            if name not in wanted:
                continue
            phrases: dict[str, list[str]] = defaultdict(list)
            for sentence in line["sentences"]:
                for chain, _, phrase in PHRASE.findall(sentence):
                    phrases[chain].append(form(phrase))
            found[name] = tuple(
                BoxedPhrases(box=_corners(box), phrases=tuple(phrases[chain]))
                for chain, boxes in line["boxes"].items()
                for box in boxes
                if phrases[chain]
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{file}, line {number}: not as wanted ({type(error).__name__}: {error}); a line is an object with "
                "image, boxes and sentences"
            ) from None
    return found


def _corners(box: list[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = map(float, box)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"box {box} has no area or leaves the picture")
    return x0, y0, x1, y1
