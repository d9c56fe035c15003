"""Make a folder from which SPICE runs, out of a folder or a Maven repository that has CoreNLP 3.6.0.

Everything happens in a folder beside, `NAME.partial`: what is there with the right checksum is not fetched again, so a
killed run costs what it was just fetching. The folder itself appears by one rename, complete or not at all.
"""

import errno
import fcntl
import hashlib
import io
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from regioncap.experiments.metrics.ranged_file import RangedFile
from regioncap.experiments.metrics.spice_models import (
    MODELS_JAR,
    SPICE_FILES,
    PublishedFile,
    SpiceFiles,
    default_spice_folder,
    missing_jars,
    spice_jars,
)
from regioncap.experiments.metrics.spice_source import JarFolder, MavenRepository, append, find_jars
from regioncap.experiments.progress import ByteProgress

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiceSetup:
    """A folder that SPICE runs from."""

    folder: Path
    sizes: Mapping[str, int]
    """Jar -> bytes on disk."""
    fetched: int
    """Bytes of the jars that came over the network."""
    was_complete: bool
    """Nothing was done: the folder was there."""


def setup_spice(
    source: str,
    to: Path | None = None,
    *,
    force: bool = False,
    files: SpiceFiles = SPICE_FILES,
    tell: Callable[[str], object] = print,
    pause: Callable[[float], object] = time.sleep,
) -> SpiceSetup:
    """Make `to` (None: where every command looks) from `source`, a folder or the address of a Maven repository.

    A complete folder is left as it is unless `force`. `tell` hears what a user should know on the way.

    Raises ValueError if `source` is not what it should be or `to` holds something else, FetchError if an address
    cannot be read, OSError if the disk is full or the folder cannot be written.
    """
    folder = (to or default_spice_folder()).expanduser().resolve()
    with _explained(folder):
        if not missing_jars(folder) and not force:
            return _setup(folder, fetched=0, was_complete=True)
        _refuse_foreign(folder)
        origin = find_jars(source, tell=tell, pause=pause)
        if isinstance(origin, JarFolder) and origin.folder.resolve() == folder:
            raise ValueError(f"--from and --to are the same folder, {folder}; it would be replaced by its own excerpt")
        partial = folder.with_name(f"{folder.name}.partial")
        with _claimed(partial):
            ready, members = partial / "ready", partial / "members"
            _fetch(origin, files, ready, members, partial)
            _write_models(ready / MODELS_JAR, files, members)
            _publish(ready, folder, partial)
        return _setup(folder, fetched=origin.fetched, was_complete=False)


def _setup(folder: Path, *, fetched: int, was_complete: bool) -> SpiceSetup:
    sizes = {jar.name: jar.stat().st_size for jar in spice_jars(folder)}
    return SpiceSetup(folder=folder, sizes=sizes, fetched=fetched, was_complete=was_complete)


def _refuse_foreign(folder: Path) -> None:
    """The folder will be replaced, so it must hold nothing but an earlier attempt."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--to {folder} is a file; name a folder, which need not exist")
    own = [jar.name for jar in spice_jars(folder)]
    others = sorted(path.name for path in folder.iterdir() if path.name not in own)
    if others:
        raise ValueError(f"--to {folder} holds other things ({others[0]}); name a folder for SPICE alone")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Add the way out to what a disk says."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                f"no room for {folder} ({error.strerror}): free some, or choose a place with --to or REGIONCAP_CACHE; "
                "what is fetched is kept, the same command goes on"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise OSError(
                f"{error.filename or folder} cannot be written or read ({error.strerror}): choose a place with --to or "
                "the environment variable REGIONCAP_CACHE"
            ) from error
        raise


@contextmanager
def _claimed(partial: Path) -> Iterator[None]:
    """The folder to work in, for this process alone; gone afterwards if nothing came into it."""
    partial.mkdir(parents=True, exist_ok=True)
    lock = os.open(partial / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another setup-spice works in {partial}; wait for it to end") from None
        try:
            yield
        finally:
            if not any(path.stat().st_size for path in partial.rglob("*") if path.is_file()):
                shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(lock)


def _fetch(origin: JarFolder | MavenRepository, files: SpiceFiles, ready: Path, members: Path, partial: Path) -> None:
    """The code's jar into `ready` and the members of the models' jar into `members`, as far as they are not there."""
    ready.mkdir(exist_ok=True)
    members.mkdir(exist_ok=True)
    missing = [member for member in files.members if not _is(members / member.sha256, member)]
    kept = sum(member.size for member in files.members if member not in missing)
    total = files.code.size + sum(member.size for member in files.members)
    with ByteProgress("CoreNLP 3.6.0 for SPICE", total=total) as progress:
        progress.advance(kept, kept=True)
        _take_code(origin, files.code, ready / files.code.name, partial / f"{files.code.name}.part", progress)
        if missing:
            with origin.open_models(partial, progress) as stream:
                try:
                    _take_members(stream, origin.where(MODELS_JAR), missing, members, progress)
                except ValueError:
                    (partial / MODELS_JAR).unlink(missing_ok=True)  # fetched whole, and not worth keeping
                    raise


def _take_code(
    origin: JarFolder | MavenRepository, wanted: PublishedFile, target: Path, part: Path, progress: ByteProgress
) -> None:
    """The jar of the code, whole, by way of `part`, which may hold its beginning."""
    if _is(target, wanted):
        progress.advance(wanted.size, kept=True)
        return
    with origin.open(wanted.name) as stream:
        size = stream.seek(0, io.SEEK_END)
        if size != wanted.size:
            raise ValueError(f"{origin.where(wanted.name)} has {size:,} bytes; CoreNLP 3.6.0's has {wanted.size:,}")
        append(stream, part, progress)
    if not _is(part, wanted):
        got = hashlib.sha256(part.read_bytes()).hexdigest()
        part.unlink()
        raise ValueError(f"{origin.where(wanted.name)} is not as published: wanted sha256 {wanted.sha256}, got {got}")
    part.rename(target)


def _take_members(
    stream: io.BufferedReader, where: str, wanted: Sequence[PublishedFile], folder: Path, progress: ByteProgress
) -> None:
    """Write members of the models' jar, each when it is checked, under its checksum as its name."""
    try:
        with ZipFile(stream) as archive:
            offsets = {info.filename: info.header_offset for info in archive.infolist()}
            for member in wanted:
                if member.name not in offsets:
                    raise ValueError(f"{where} does not hold {member.name}, as CoreNLP 3.6.0's does")
            wanted = sorted(wanted, key=lambda member: offsets[member.name])
            if isinstance(stream.raw, RangedFile):
                stream.raw.stop_at(_run_ends([offsets[member.name] for member in wanted], offsets.values()))
            for member in wanted:
                _take_member(archive, where, member, folder / member.sha256, progress)
    except (BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{where} is no sound zip file, as a jar must be: {error}") from error


def _run_ends(wanted: Sequence[int], offsets: Iterable[int]) -> list[int]:
    """Where runs of neighbouring wanted members end: at the offset of a member that is not wanted."""
    return sorted(set(offsets) - set(wanted))


def _take_member(archive: ZipFile, where: str, member: PublishedFile, target: Path, progress: ByteProgress) -> None:
    part = target.with_suffix(".part")
    digest = hashlib.sha256()
    with archive.open(member.name) as content, part.open("wb") as file:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            progress.advance(len(chunk))
    if digest.hexdigest() != member.sha256:
        raise ValueError(
            f"{where} holds another {member.name}: wanted sha256 {member.sha256}, got {digest.hexdigest()}"
        )
    part.rename(target)


def _is(path: Path, wanted: PublishedFile) -> bool:
    """The file is there and as published."""
    if not path.is_file() or path.stat().st_size != wanted.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == wanted.sha256


def _write_models(jar: Path, files: SpiceFiles, members: Path) -> None:
    with ZipFile(jar, "w", ZIP_DEFLATED) as archive:
        for member in files.members:
            archive.writestr(ZipInfo(member.name), (members / member.sha256).read_bytes(), ZIP_DEFLATED)


def _publish(ready: Path, folder: Path, partial: Path) -> None:
    if folder.exists():
        replaced = partial / "replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    ready.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)
