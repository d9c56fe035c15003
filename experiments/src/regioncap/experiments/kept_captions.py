"""Captions of many images, kept batch by batch: a run that was killed and is called again goes on where it ended."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, TypeVar

from regioncap.experiments.progress import track

Picture = TypeVar("Picture")

FORMAT = "regioncap captions 1"


class KeptCaptionsError(ValueError):
    """A file of kept captions is another's, damaged or in use; the message names it and the way out."""


def caption_all(
    images: Mapping[str, Picture],
    caption: Callable[[Sequence[Picture]], Sequence[str]],
    file: Path | None,
    maker: Mapping[str, Any],
    *,
    batch_size: int = 50,
    describe: str = "caption images",
) -> dict[str, str]:
    """Image -> caption, in the order of `images`, with a progress bar that `describe` names.

    `images` are name -> whatever `caption` takes of an image: a row of a store, a path, pixels. `caption` returns one
    text for each image of a batch. Every batch is on the disk, in `file`, before the next begins, so a killed run loses
    one batch at the most; a later call with the same `images` asks for the rest. None keeps nothing.

    `maker` is all that decides what the captions are, as JSON values: digests of weights and settings, search, split.
    The file holds it, and an attempt to go on with another is refused. A batch is one line, and a line that was cut is
    dropped: the batches of a run that went on are those of a run that was never killed.

    Raises KeptCaptionsError if the file belongs to another maker or other images, holds something else, or another
    process writes it; ValueError if `caption` returns more or fewer texts than it got images.
    """
    names = list(images)
    kept: dict[str, str] = {}
    if file is None:
        _caption_rest(images, names, kept, caption, None, batch_size, describe)
        return kept
    listed = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    head = json.loads(json.dumps({"format": FORMAT, "maker": dict(maker), "images": len(names), "names": listed}))
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(_locked(file)) as handle:
        kept |= _read(handle, head, file)
        rest = [name for name in names if name not in kept]
        _caption_rest(images, rest, kept, caption, handle, batch_size, describe)
    return {name: kept[name] for name in names}


def _caption_rest(
    images: Mapping[str, Picture],
    rest: Sequence[str],
    kept: dict[str, str],
    caption: Callable[[Sequence[Picture]], Sequence[str]],
    handle: IO[bytes] | None,
    batch_size: int,
    describe: str,
) -> None:
    """Caption the images of `rest`, add them to `kept`, and write each batch as it comes."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    starts = range(0, len(rest), batch_size)
    done = -(-len(kept) // batch_size)
    for start in track(starts, description=describe, total=done + len(starts), completed=done):
        batch = rest[start : start + batch_size]
        texts = caption([images[name] for name in batch])
        if len(texts) != len(batch):
            raise ValueError(f"captioning {len(batch)} images gave {len(texts)} texts; it must give one for each")
        captions = dict(zip(batch, texts, strict=True))
        if handle is not None:
            _append(handle, captions)
        kept |= captions


def _locked(file: Path) -> IO[bytes]:
    """The file open for reading and appending, this process's alone until it is closed or the process ends."""
    handle = file.open("a+b")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise KeptCaptionsError(
            f"{file} is being written by another process: let that one finish, or write somewhere else"
        ) from None
    return handle


def _read(handle: IO[bytes], head: Mapping[str, Any], file: Path) -> dict[str, str]:
    """The captions of all whole lines; what follows them is cut off. Begins the file where it holds no whole line."""
    handle.seek(0)
    content = handle.read()
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        if content and not (json.dumps(head).encode() + b"\n").startswith(content):
            raise KeptCaptionsError(_foreign(file))
        handle.truncate(0)
        _append(handle, head)
        return {}
    try:
        first, *rows = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise KeptCaptionsError(_foreign(file)) from error
    if not isinstance(first, dict) or first.get("format") != FORMAT:
        raise KeptCaptionsError(_foreign(file))
    if first != head:
        raise KeptCaptionsError(
            f"{file} holds captions of another run: {'; '.join(_differences(first, head))}. Delete it to begin anew, "
            "or write somewhere else"
        )
    handle.truncate(len(whole))
    captions: dict[str, str] = {}
    for row in rows:
        captions |= row
    return captions


def _append(handle: IO[bytes], row: Mapping[str, Any]) -> None:
    """Add a line, and return when it is on the disk."""
    handle.write(json.dumps(row).encode() + b"\n")
    handle.flush()
    os.fsync(handle.fileno())


def _foreign(file: Path) -> str:
    return f"{file} holds no captions that were kept by an earlier run: move it away, or write somewhere else"


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs, in words: `split is 'dev' there, 'test' here`."""
    there, here = found.get("maker", {}), wanted["maker"]
    lines = [
        f"{key} is {_short(there.get(key))} there, {_short(here.get(key))} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]
    if found.get("images") != wanted["images"]:
        lines.append(f"{found.get('images')} images there, {wanted['images']} here")
    elif found.get("names") != wanted["names"]:
        lines.append("the images have other names or another order")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
