"""Digests of picture files, remembered by size and time of change so that a second look costs a `stat` each."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from regioncap.encoders.store.atomic import write_durably
from regioncap.encoders.store.lock import locked

UNREADABLE = "unreadable"
"""Stands for the digest of a file that cannot be read."""
_SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was read may change again without a new time: it is read again next time."""


def digest_files(
    paths: Sequence[Path], book: Path, threads: int, seen: Callable[[], None] = lambda: None
) -> list[tuple[int, str]]:
    """Return (bytes, SHA-256) of each file; `book` is the JSON file that remembers them.

    A file that cannot be read, missing ones among them, has `UNREADABLE` for a digest. `seen` is called after each
    file; what was read before an interruption is remembered. A book that is damaged is begun anew: it saves time and
    decides nothing.
    """
    known = _read(book)
    places = [str(path.absolute()) for path in paths]
    found: list[tuple[int, str]] = []
    fresh: dict[str, tuple[int, int, str]] = {}
    try:
        with ThreadPoolExecutor(threads) as pool:
            looked = pool.map(lambda place: _look(place, known.get(place)), places)
            for place, (size, changed, digest, settled) in zip(places, looked, strict=True):
                found.append((size, digest))
                if settled and known.get(place) != (size, changed, digest):
                    fresh[place] = (size, changed, digest)
                seen()
    finally:
        if fresh:
            # A store that may only be read is used all the same.
            with (
                suppress(OSError),
                locked(book.with_name(f".{book.name}.lock"), str(book), wait=True, say=lambda line: None),
            ):
                write_durably(book, json.dumps(_read(book) | fresh).encode())
    return found


def _look(place: str, known: tuple[int, int, str] | None) -> tuple[int, int, str, bool]:
    """Size, time of change, digest, and whether to remember them."""
    try:
        path = Path(place)
        status = path.stat()
        if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
            return *known, True
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return 0, 0, UNREADABLE, False
    return status.st_size, status.st_mtime_ns, digest, time.time_ns() - status.st_mtime_ns > _SETTLED_NS


def _read(book: Path) -> dict[str, tuple[int, int, str]]:
    try:
        content = json.loads(book.read_bytes())
        return {place: (int(size), int(changed), str(digest)) for place, (size, changed, digest) in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
