"""Caption files a line a caption, as Flickr8k and Flickr30k have them: `name.jpg#k<TAB>caption`."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from regioncap.experiments.data.dataset import DataError

CAPTION_LINE = "'name.jpg#0<TAB>caption'"


def read_token_file(
    path: Path, files: Collection[str] | None = None
) -> tuple[Mapping[str, tuple[str, ...]], Counter[str]]:
    """Captions by image, in the order of the file, and why other lines were left out.

    Captions of images that are not among `files` are counted; None takes all. Raises DataError naming the line that is
    not as wanted.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: write {CAPTION_LINE} lines there, or name the file (--data.captions)")
    captions: dict[str, list[str]] = {}
    skipped: Counter[str] = Counter()
    seen = set()
    for number, line in numbered_lines(path):
        key, tab, caption = line.partition("\t")
        name, hash_, index = key.rpartition("#")
        if not (tab and hash_ and name and index.isdecimal()):
            raise DataError(f"{path}, line {number}: found '{_short(line)}', want {CAPTION_LINE}; correct the line")
        if key in seen:
            skipped["repeated caption line"] += 1
        elif files is not None and name not in files:
            skipped["caption without image"] += 1
        elif not caption.strip():
            skipped["empty caption"] += 1
        else:
            captions.setdefault(name, []).append(caption.strip())
        seen.add(key)
    if not seen:
        raise DataError(f"{path} is empty: write {CAPTION_LINE} lines there, or name another file (--data.captions)")
    return {name: tuple(found) for name, found in captions.items()}, skipped


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that hold something; a byte order mark, as some editors write, is no part of the first name."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _short(line: str, limit: int = 60) -> str:
    return line if len(line) <= limit else f"{line[:limit]}..."
