"""References and the captions of one or more systems, matched image by image."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regioncap.experiments.scoring.formats import (
    NAMES,
    CaptionFile,
    CaptionFileError,
    Row,
    annotated_images,
    load,
    rows,
    text_of,
)

_DEFAULT_SPLIT = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSets:
    """What is to be scored: the same images everywhere, in the order of the references."""

    references: Mapping[str, Sequence[str]]
    """Image -> its references. An image goes by its file name where the references tell it, else by its id."""
    captions: tuple[Mapping[str, str], ...]
    """Per file of predictions, image -> caption."""
    pictures: Mapping[str, str]
    """Image -> path of its picture inside the folder of pictures."""


def read_captions(
    references: Path | None, predictions: Sequence[Path], *, split: str | None = None, subset: bool = False
) -> CaptionSets:
    """Read all files and match them. Every file is read once; the formats are those of `formats`.

    `references` None takes the references out of the first file of predictions (JSON lines may hold both).
    `split` is for Karpathy's JSON alone, and `test` there when None. `subset` scores only the images that the
    predictions name, which must then be the same in all files.
    A prediction finds its image by id (`image_id`), by file name, or by the file name without folders or ending.
    Raises CaptionFileError on whatever would make the scores mean something else than they say.
    """
    files = [load(path) for path in predictions]
    truth = files[0] if references is None else load(references)
    _refuse_wrong_way_round(truth, files, given=references is not None)
    known = _References(truth, split)
    captions = [_captions(file, known) for file in files]
    images = [image for image in known.captions if image in captions[0]] if subset else list(known.captions)
    for file, texts in zip(files, captions, strict=True):
        _refuse_uneven(file.path, texts, images, known, subset)
    bare = [image for image in images if not known.captions[image]]
    if bare:
        raise CaptionFileError(f"{truth.path}: image {_listed(bare)} has no references; remove it or add a caption")
    return CaptionSets(
        references={image: known.captions[image] for image in images},
        captions=tuple({image: texts[image] for image in images} for texts in captions),
        pictures={image: known.pictures[image] for image in images},
    )


class _References:
    """The images of the references, found under whatever name a prediction gives them."""

    def __init__(self, file: CaptionFile, split: str | None) -> None:
        if split is not None and file.kind != "karpathy":
            raise CaptionFileError(f"--split {split} is for Karpathy's JSON; {file.path} is {NAMES[file.kind]}")
        self.path = file.path
        self.split = (split or _DEFAULT_SPLIT) if file.kind == "karpathy" else None
        self.captions: dict[str, tuple[str, ...]] = {}
        self.pictures: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._elsewhere: dict[str, str] = {}
        splits: Counter[str] = Counter()
        for image in annotated_images(file):
            if image.split is not None and image.split != self.split:
                splits[image.split] += 1
                self._elsewhere |= {key: image.split for key in (image.name, image.id) if key is not None}
                continue
            if image.name in self.captions or image.id in self._ids:
                raise CaptionFileError(f"{image.where}: image '{image.name}' occurs twice; every image wants one entry")
            self.captions[image.name] = image.references
            self.pictures[image.name] = image.picture
            if image.id is not None:
                self._ids[image.id] = image.name
        if not self.captions and splits:
            found = ", ".join(f"{name} ({count})" for name, count in splits.items())
            raise CaptionFileError(f"{self.path} has no image in split '{self.split}'; --split can be {found}")
        if not self.captions:
            raise CaptionFileError(f"{self.path} holds no captions at all")
        self._files = _unique((PurePosixPath(name).name, name) for name in self.captions)
        self._stems = _unique((PurePosixPath(name).stem, name) for name in self.captions)

    def find(self, row: Row) -> str:
        """The image that a row of predictions is of. Raises CaptionFileError if there is none."""
        names = {row.image: row.image} if row.image in self.captions else {}
        file = PurePosixPath(row.image.replace("\\", "/"))
        by_name = ((names, row.image), (self._files, file.name), (self._stems, file.stem))
        by_id = (self._ids, row.image)
        for index, key in (by_id, *by_name) if row.by_id else (*by_name, by_id):
            if key in index:
                return index[key]
        raise CaptionFileError(f"{row.where}: image '{row.image}' {self._why_unknown(row.image)}")

    def _why_unknown(self, image: str) -> str:
        if image in self._elsewhere:
            other = self._elsewhere[image]
            return f"is in split '{other}' of {self.path}, not in '{self.split}'; choose it with --split {other}"
        where = f"split '{self.split}' of " if self.split else ""
        return f"is not in {where}{self.path}, such as '{next(iter(self.captions))}' is"


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The keys that stand for one image only."""
    pairs = list(pairs)
    often = Counter(key for key, _ in pairs)
    return {key: name for key, name in pairs if often[key] == 1}


def _refuse_wrong_way_round(truth: CaptionFile, files: Sequence[CaptionFile], *, given: bool) -> None:
    if not given and not truth.has_references:
        raise CaptionFileError(f"{truth.path} holds captions without references; name those with --references FILE")
    for file in files:
        if not truth.has_references and not file.has_captions:
            raise CaptionFileError(
                f"references and predictions are swapped: {truth.path} holds {NAMES[truth.kind]} and {file.path} "
                f"{NAMES[file.kind]}; write --references {file.path} --predictions {truth.path}"
            )
        if not file.has_captions:
            raise CaptionFileError(
                f"{file.path} is {NAMES[file.kind]}, that is references, but was given as predictions; "
                'want COCO results [{"image_id", "caption"}] or JSON lines {"image", "caption"}'
            )
    if not truth.has_references:
        raise CaptionFileError(
            f"{truth.path} holds {NAMES[truth.kind]}, that is predictions, but was given as references; "
            'want COCO annotations, Karpathy\'s JSON or JSON lines {"image", "references"}'
        )


def _captions(file: CaptionFile, references: _References) -> dict[str, str]:
    captions: dict[str, str] = {}
    for row in rows(file):
        image = references.find(row)
        if image in captions:
            raise CaptionFileError(f"{row.where}: image '{image}' occurs twice; every image wants one caption")
        if "caption" not in row.content:
            raise CaptionFileError(f"{row.where} (image '{image}') has no \"caption\"")
        captions[image] = text_of(row.content["caption"], f"{row.where} (image '{image}')", "the caption")
    return captions


def _refuse_uneven(
    path: Path, captions: Mapping[str, str], images: Sequence[str], references: _References, subset: bool
) -> None:
    missing = [image for image in images if image not in captions]
    if missing:
        way_out = "" if subset else "; --subset scores only the images that have one"
        raise CaptionFileError(f"{path} has no caption for image {_listed(missing)} of {references.path}{way_out}")
    if len(captions) > len(images):
        chosen = set(images)
        more = [image for image in captions if image not in chosen]
        raise CaptionFileError(
            f"{path} has a caption for image {_listed(more)}, which the first file of predictions lacks; "
            "with --subset all systems must caption the same images"
        )


def _listed(images: Sequence[str]) -> str:
    more = f" (and {len(images) - 1:,} more)" if len(images) > 1 else ""
    return f"'{images[0]}'{more}"
