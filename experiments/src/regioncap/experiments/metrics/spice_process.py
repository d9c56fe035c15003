"""Child process: SPICE 1.0 (Anderson et al. 2016, arXiv 1607.08822) out of the pycocoevalcap wheel, with CoreNLP 3.6.0
from a folder, as the wheel does not hold it.

SPICE is called through its classes: its command line asks for a JavaScript engine that current Java lacks.
"""

import fcntl
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import jpype

from regioncap.experiments.metrics.java_process import serve, start_java, wheel_folder

_IMAGES_AT_ONCE = 100
"""Parse trees of a batch are held together in the heap."""

# Its cache serialises through classes that Java has closed since version 16.
_OPEN_PACKAGES = [
    f"--add-opens=java.base/java.{package}=ALL-UNNAMED"
    for package in ("lang", "math", "util", "util.concurrent", "net", "text", "io")
] + ["--add-opens=java.sql/java.sql=ALL-UNNAMED"]


class SpiceService:
    """SPICE with its parses kept on disk: a caption's parse never changes, and parsing is nearly all of the cost."""

    def __init__(self, spice_folder: str, cache_folder: str, heap_mb: int, threads: int, work_folder: str) -> None:
        wheel = wheel_folder() / "spice"
        jars = [wheel / "spice-1.0.jar", *sorted((wheel / "lib").glob("*.jar"))]
        start_java(
            [*jars, *spice_jars(Path(spice_folder))], heap_mb=heap_mb, work_folder=work_folder, options=_OPEN_PACKAGES
        )
        folder, self._lock = claim_cache(Path(cache_folder))
        # The jar's data base is native code for this processor alone; elsewhere every run parses anew.
        cache = str(folder) if platform.machine() in ("x86_64", "AMD64") else None
        self._spice = jpype.JPackage("edu").anu.spice
        self._parser = self._spice.SpiceParser(cache, threads, True)

    def spice(self, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> list[float]:
        """SPICE's F of each image's tokenized caption; the corpus score is their mean. No tuples on a side: 0."""
        integer, array_list = jpype.JClass("java.lang.Integer"), jpype.JClass("java.util.ArrayList")
        scores: list[float] = []
        for start in range(0, len(candidates), _IMAGES_AT_ONCE):
            some = references[start : start + _IMAGES_AT_ONCE]
            captions = array_list([caption for group in some for caption in group])
            sizes = array_list([integer(len(group)) for group in some])
            truth = self._parser.parseCaptions(captions, sizes)
            tested = self._parser.parseCaptions(array_list(candidates[start : start + _IMAGES_AT_ONCE]))
            statistics = self._spice.SpiceStats(jpype.JClass("java.util.HashMap")(), False)
            for index in range(len(some)):
                statistics.score(str(index), tested[index], truth[index], True)
            scores += [image["scores"]["All"]["f"] for image in json.loads(str(statistics.toJSONString()))]
        return scores


def spice_jars(folder: Path) -> list[Path]:
    """The two CoreNLP jars that SPICE needs in a folder."""
    return [folder / "stanford-corenlp-3.6.0.jar", folder / "stanford-corenlp-3.6.0-models.jar"]


def claim_cache(folder: Path) -> tuple[Path, int]:
    """The first numbered cache inside `folder` that no other process uses, locked until this process ends.

    Studies that run at once so never share a data base, and one study after the other gets the same one.
    Returns the folder and the lock's file descriptor. Raises OSError if the folder cannot be written.
    """
    for number in count():
        slot = folder / str(number)
        try:
            slot.mkdir(parents=True, exist_ok=True)
            lock = os.open(slot / "in-use.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OSError(f"SPICE cannot keep its parses in {slot} ({error}); set metrics.cache_folder") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return slot, lock
    raise AssertionError("unreachable")


def _calls(**settings: Any) -> Mapping[str, Callable[..., Any]]:
    return {"spice": SpiceService(**settings).spice}


if __name__ == "__main__":
    serve(_calls)
