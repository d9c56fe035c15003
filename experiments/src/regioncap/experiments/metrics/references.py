"""A set of references: tokenized, counted and weighed once, and kept between runs."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from regioncap.experiments.metrics.bleu import Bleu
from regioncap.experiments.metrics.cider import CiderD
from regioncap.experiments.metrics.kept_arrays import read_arrays, write_arrays
from regioncap.experiments.metrics.ngrams import ORDERS, NgramCounts, NgramIndex, Tokens

_LAYOUT = 1
"""Part of a kept file's name: raise it when the layout or the tokenizer changes, and old files are left alone."""

Tokenize = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True, kw_only=True)
class References:
    """The references of I images, ready to be scored against. S captions in all; those without a word are left out.

    Made by `prepare_references`. BLEU's and CIDEr's tables are made when first asked for and kept.
    """

    images: tuple[str, ...]
    captions: tuple[str, ...]
    """S captions, tokens joined by single spaces, image after image."""
    image: Int[np.ndarray, " S"]
    """Which image each caption belongs to, ascending."""
    blank: int
    """Captions without a word, left out."""
    key: str
    """Hash of the content: of images and captions as they were given, in their order."""
    index: NgramIndex
    counts: tuple[NgramCounts, ...]

    def of_images(self, begin: int, end: int) -> list[list[str]]:
        """Tokenized references of the images from `begin` to before `end`."""
        bounds = np.searchsorted(self.image, np.arange(begin, end + 1)).tolist()
        return [list(self.captions[first:last]) for first, last in pairwise(bounds)]

    @cached_property
    def tokens(self) -> Tokens:
        """The captions as word numbers."""
        return self.index.number(self.captions)

    @cached_property
    def bleu(self) -> Bleu:
        """BLEU against these references."""
        return Bleu(self.tokens, self.counts, self.image, self.index.sizes)

    @cached_property
    def cider(self) -> CiderD:
        """CIDEr-D against these references."""
        return CiderD(self.counts, self.image, self.index.sizes)


def references_key(references: Mapping[str, Sequence[str]]) -> str:
    """Hash of images and captions in their order."""
    digest = hashlib.sha256()
    for image, captions in references.items():
        digest.update(json.dumps([image, *captions]).encode())
    return digest.hexdigest()[:32]


def prepare_references(
    references: Mapping[str, Sequence[str]], tokenize: Tokenize, folder: Path
) -> tuple[References, str | None]:
    """Take the references from `folder`, or tokenize and count them and keep them there.

    Kept by content, so an edited caption, another order or another subset is another file. The second value says why
    they could not be kept, None where they are. Raises ValueError naming an image whose references hold no word: for
    the tokenizer looks across captions, a set is tokenized as a whole.
    """
    key = references_key(references)
    file = folder / f"{key}-{_LAYOUT}.npz"
    kept = _read(file, tuple(references), key)
    if kept is not None:
        return kept, None
    prepared = _prepare(references, tokenize, key)
    try:
        _write(file, prepared)
    except OSError as error:
        return prepared, str(error)
    return prepared, None


def _prepare(references: Mapping[str, Sequence[str]], tokenize: Tokenize, key: str) -> References:
    lines = tokenize([caption for captions in references.values() for caption in captions])
    owner = np.repeat(np.arange(len(references)), [len(captions) for captions in references.values()])
    spoken = np.array([bool(line) for line in lines], dtype=bool)
    silent = np.flatnonzero(np.bincount(owner[spoken], minlength=len(references)) == 0)
    if len(silent):
        image = list(references)[int(silent[0])]
        more = f" (and {len(silent) - 1} more)" if len(silent) > 1 else ""
        raise ValueError(f"image '{image}'{more} has references, but not a word in any of them")
    captions = [line for line in lines if line]
    index, counts = NgramIndex.learn(captions)
    return References(
        images=tuple(references),
        captions=tuple(captions),
        image=owner[spoken],
        blank=len(lines) - len(captions),
        key=key,
        index=index,
        counts=tuple(counts),
    )


def _write(file: Path, prepared: References) -> None:
    arrays: dict[str, Any] = {
        "captions": _bytes(prepared.captions),
        "words": _bytes(prepared.index.words),
        "image": prepared.image,
        "blank": np.array(prepared.blank),
    }
    for order, keys in enumerate(prepared.index.keys, 2):
        arrays[f"keys{order}"] = keys
    for order, count in enumerate(prepared.counts, 1):
        arrays[f"caption{order}"] = count.caption.astype(np.int32)
        arrays[f"gram{order}"] = count.gram.astype(np.int32)
        arrays[f"times{order}"] = count.times.astype(np.int32)
    write_arrays(file, arrays)


def _read(file: Path, images: tuple[str, ...], key: str) -> References | None:
    held = read_arrays(file)
    if held is None:
        return None
    counts = [
        NgramCounts(**{name: held[f"{name}{order}"].astype(np.int64) for name in ("caption", "gram", "times")})
        for order in range(1, ORDERS + 1)
    ]
    return References(
        images=images,
        captions=tuple(_lines(held["captions"])),
        image=held["image"],
        blank=int(held["blank"]),
        key=key,
        index=NgramIndex(_lines(held["words"]), [held[f"keys{order}"] for order in range(2, ORDERS + 1)]),
        counts=tuple(counts),
    )


def _bytes(lines: Sequence[str]) -> UInt8[np.ndarray, " bytes"]:
    return np.frombuffer("\n".join(lines).encode("utf-8", "surrogatepass"), dtype=np.uint8)


def _lines(held: UInt8[np.ndarray, " bytes"]) -> list[str]:
    return held.tobytes().decode("utf-8", "surrogatepass").split("\n")
