"""Where CoreNLP's published jars come from: a folder, or a Maven repository at an address or on disk."""

import io
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

from regioncap.experiments.metrics.ranged_file import FetchError, RangedFile
from regioncap.experiments.metrics.spice_models import MODELS_JAR, REPOSITORY_PATH, missing_jars
from regioncap.experiments.progress import ByteProgress

_CHUNK = 1 << 16


class JarFolder:
    """Jars side by side in a folder, or where a Maven repository on disk keeps them.

    Raises ValueError if they are in neither place.
    """

    def __init__(self, named: Path) -> None:
        self.fetched = 0
        if not named.is_dir():
            raise ValueError(
                f"--from {named}: no such folder, nor is it an address that begins with http:// or https://"
            )
        missing = missing_jars(named)
        self.folder = named
        if missing and not missing_jars(named / REPOSITORY_PATH):
            self.folder, missing = named / REPOSITORY_PATH, []
        if missing:
            raise ValueError(f"--from {named}: the folder holds no {' and no '.join(missing)}, nor {REPOSITORY_PATH}/")

    def where(self, jar: str) -> str:
        """The jar's path."""
        return str(self.folder / jar)

    def open(self, jar: str) -> io.BufferedReader:
        """The jar, to read."""
        return (self.folder / jar).open("rb")

    def open_models(self, partial: Path, progress: ByteProgress) -> io.BufferedReader:
        """The models' jar where it is."""
        return self.open(MODELS_JAR)


class MavenRepository:
    """Jars at the address of a Maven repository."""

    def __init__(self, base: str, tell: Callable[[str], object], pause: Callable[[float], object]) -> None:
        self.fetched = 0
        self._base = base.rstrip("/")
        self._tell = tell
        self._pause = pause

    def where(self, jar: str) -> str:
        """The jar's address."""
        return f"{self._base}/{REPOSITORY_PATH}/{jar}"

    def open(self, jar: str) -> io.BufferedReader:
        """The jar, to read from the server. Raises ValueError if there is none, FetchError if it cannot be read."""
        try:
            file = RangedFile(self.where(jar), arrived=self._arrived, pause=self._pause)
        except FetchError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise ValueError(
                    f"--from {self._base}: no Maven repository there, or one without CoreNLP 3.6.0: {error}"
                ) from error
            raise
        return io.BufferedReader(file, _CHUNK)

    def open_models(self, partial: Path, progress: ByteProgress) -> io.BufferedReader:
        """Read at the server if it sends parts of files, else fetched whole into `partial` and read there."""
        whole = partial / MODELS_JAR
        if whole.exists():
            return whole.open("rb")
        stream = self.open(MODELS_JAR)
        assert isinstance(stream.raw, RangedFile)
        if stream.raw.ranged:
            return stream
        size = stream.raw.size
        self._tell(
            f"{self._base} does not send parts of files: fetching the whole of {MODELS_JAR}, {size / 1e6:,.1f} MB, "
            "of which SPICE needs 10 MB"
        )
        part = partial / f"{MODELS_JAR}.part"
        progress.extend(size)
        with stream:
            append(stream, part, progress)
        part.rename(whole)
        return whole.open("rb")

    def _arrived(self, count: int) -> None:
        self.fetched += count


def find_jars(
    source: str, *, tell: Callable[[str], object], pause: Callable[[float], object]
) -> JarFolder | MavenRepository:
    """What `--from` means. Raises ValueError if it is neither a folder with the jars nor an address of HTTP."""
    address = urlsplit(source)
    if address.scheme in ("http", "https"):
        if not address.hostname:
            raise ValueError(f"--from {source}: the address names no host")
        if address.username is not None:
            raise ValueError(f"--from: the address of {address.hostname} holds a user name, which cannot be used here")
        return MavenRepository(source, tell, pause)
    if "://" in source and address.scheme != "file":
        raise ValueError(f"--from {source}: want a folder or an address that begins with http:// or https://")
    return JarFolder(Path(unquote(address.path)) if address.scheme == "file" else Path(source).expanduser())


def append(stream: io.BufferedReader, part: Path, progress: ByteProgress) -> None:
    """Write what `part` lacks of the stream."""
    with part.open("ab") as file:
        progress.advance(file.tell(), kept=True)
        stream.seek(file.tell())
        while chunk := stream.read(_CHUNK):
            file.write(chunk)
            progress.advance(len(chunk))
