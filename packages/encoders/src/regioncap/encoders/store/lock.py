"""One extraction at a time in a folder."""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from regioncap.encoders.store.errors import StoreError


@contextmanager
def locked(file: Path, what: str, *, wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `file` on `what`; while another process holds it, say so and wait, or raise StoreError.

    The kernel's own lock (flock): it ends with its process, however that ends, so no stale lock is ever in the way.
    The file stays and names its last owner, for people alone.
    """
    with file.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(file)
            if not wait:
                raise StoreError(
                    f"{what} is being written by {owner}: call again later, or let this one wait"
                ) from None
            say(f"{what} is being written by {owner}; waiting until it is done")
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        handle.flush()
        yield


def _owner(file: Path) -> str:
    try:
        owner = json.loads(file.read_text())
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
