"""Encode every picture of a split once, and keep what the encoder said."""

import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.store.atomic import PARTIAL
from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.fingerprint import fingerprint
from regioncap.encoders.store.layout import join
from regioncap.encoders.store.lock import locked
from regioncap.encoders.store.manifest import MANIFEST, Manifest, library_versions, write_manifest
from regioncap.encoders.store.pipeline import encode_batches
from regioncap.encoders.store.plan import Plan, PlannedShard, make_plan
from regioncap.encoders.store.reader import FeatureStore, open_store
from regioncap.encoders.store.shard_file import DiskFull, borrow, finished, open_shard, unreadable_of, write_shard

BOOK = "digests.json"
"""Remembers the digests of pictures, below a root."""
SHARD_SIZE = 512
"""Images in a shard: 64 MB of a 7x7 grid, which a killed extraction loses at most per process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig:
    """How pictures are encoded; what comes out does not depend on it, but for the last digits on `batch_size`."""

    batch_size: int = 16
    """Images encoded together. On a GPU 128 or more keep it busy."""
    threads: int = 0
    """Threads that decode and, on a CPU, encode; 0: as many as this process has cores."""
    wait: bool = True
    """Whether to wait for another extraction of the same, or to end with an error that names it."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"extract.batch_size must be at least 1, got {self.batch_size}")
        if self.threads < 0:
            raise ValueError(f"extract.threads must not be negative, got {self.threads}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """This process among those that extract together; every one calls `extract` with the same arguments."""

    index: int = 0
    size: int = 1
    meet: Callable[[], None] = lambda: None
    """Return once all processes have called it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Whom an extraction tells how it goes."""

    say: Callable[[str], None] = print
    """Gets a line that a person should read."""
    encoded: Callable[[int, int], None] = lambda done, total: None
    """Gets how many images this process has encoded, of how many that it has to."""


def extract(
    pictures: Mapping[str, Path],
    encoder: ImageEncoder,
    root: Path,
    name: str,
    config: ExtractConfig | None = None,
    *,
    team: Team | None = None,
    observer: Observer | None = None,
    shard_size: int = SHARD_SIZE,
) -> FeatureStore:
    """Return the store of `pictures` (name -> file) under `root`, encoding what is not there yet.

    The folder is `<name>-<digest of encoder and pictures>`. Its bytes are a function of these two and of
    `config.batch_size`: batches are cut from the pictures' order alone, and whatever was killed, how often, and
    however many processes and threads there were leaves no trace. Finished shards are kept, also those of another
    store under `root` that hold the same pictures: after one picture was mended, one shard is encoded.
    A picture that cannot be read is left out and named in `FeatureStore.unreadable`. Raises StoreError if none can be
    read, the disk is full, the encoder returns what float16 cannot hold, or another process is at it and
    `config.wait` is off.
    """
    config, team, observer = config or ExtractConfig(), team or Team(), observer or Observer()
    threads = config.threads or max(1, _cores() // team.size)
    root.mkdir(parents=True, exist_ok=True)
    mark = fingerprint(encoder)
    if team.index:
        team.meet()  # the first process fills the book of digests for all
    plan = make_plan(name, mark, pictures, root / BOOK, shard_size=shard_size, threads=threads)
    if not team.index:
        team.meet()
    folder = root / plan.folder
    if team.size == 1 and (folder / MANIFEST).exists() and not _missing(plan, folder, encoder):
        return open_store(folder)
    lock: AbstractContextManager[None] = nullcontext()
    if not team.index:
        lock = locked(root / f".{plan.folder}.lock", str(folder), wait=config.wait, say=observer.say)
    with lock:
        if not team.index:
            _tidy(plan, root, folder, encoder)
        team.meet()
        missing = _missing(plan, folder, encoder)
        team.meet()  # nobody writes before all have looked: each takes its share of the same list
        _Extraction(encoder, folder, config.batch_size, threads, observer).run(missing[team.index :: team.size])
        team.meet()
        if not team.index and not (folder / MANIFEST).exists():
            write_manifest(_manifest(plan, folder, encoder, config), folder)
        team.meet()
    return open_store(folder)


class _Extraction:
    """One process's share."""

    def __init__(self, encoder: ImageEncoder, folder: Path, batch_size: int, threads: int, observer: Observer) -> None:
        self.encoder, self.folder, self.batch_size, self.observer = encoder, folder, batch_size, observer
        self.threads = threads
        on_cpu = not isinstance(encoder, nn.Module) or all(p.device.type == "cpu" for p in encoder.parameters())
        self.at_once = threads if on_cpu else 1

    def run(self, shards: Sequence[PlannedShard]) -> None:
        """Encode and write them; the writer is at most one shard behind."""
        written: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer, closing(self._encoded(shards)) as encoded:
            for number, (shard, batches, unreadable) in enumerate(encoded):
                if written is not None:
                    written.result()
                written = writer.submit(self._write, shard, batches, unreadable, len(shards) - number)
            if written is not None:
                written.result()

    def _encoded(
        self, shards: Sequence[PlannedShard]
    ) -> Generator[tuple[PlannedShard, list[Mapping[str, Tensor]], dict[int, str]]]:
        size = self.batch_size
        cut = [[shard.paths[i : i + size] for i in range(0, len(shard.paths), size)] for shard in shards]
        batches = [batch for own in cut for batch in own]
        done, total = 0, sum(len(batch) for batch in batches)
        # One stream over all shards: the threads do not run dry where a shard ends.
        with closing(encode_batches(self.encoder, batches, threads=self.threads, at_once=self.at_once)) as stream:
            for shard, own in zip(shards, cut, strict=True):
                tensors: list[Mapping[str, Tensor]] = []
                unreadable: dict[int, str] = {}
                start = 0
                for batch, encoded in zip(own, stream, strict=False):
                    if encoded.tensors:
                        tensors.append(encoded.tensors)
                    unreadable |= {start + place: reason for place, reason in encoded.unreadable.items()}
                    start += len(batch)
                    done += len(batch)
                    self.observer.encoded(done, total)
                yield shard, tensors, unreadable

    def _write(
        self, shard: PlannedShard, batches: Sequence[Mapping[str, Tensor]], unreadable: Mapping[int, str], left: int
    ) -> None:
        try:
            write_shard(self.folder / shard.file, join(batches), unreadable)
        except DiskFull as error:
            needed, free = error.needed * left, shutil.disk_usage(self.folder).free
            raise StoreError(
                f"no room in {self.folder}: {left} shards to go need about {_mb(needed)}, {_mb(free)} are free. What "
                "is finished is kept: make room and call again"
            ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tidy(plan: Plan, root: Path, folder: Path, encoder: ImageEncoder) -> None:
    """Remove what killed extractions left, and take over shards that another store has already."""
    folder.mkdir(exist_ok=True)
    for left in folder.glob(f"*{PARTIAL}"):
        left.unlink()
    missing = _missing(plan, folder, encoder)
    if missing:
        (folder / MANIFEST).unlink(missing_ok=True)
    for shard in missing:
        borrow(folder / shard.file, root, shard.identity)


def _missing(plan: Plan, folder: Path, encoder: ImageEncoder) -> list[PlannedShard]:
    return [shard for shard in plan.shards if not finished(folder / shard.file, encoder, shard.paths)]


def _manifest(plan: Plan, folder: Path, encoder: ImageEncoder, config: ExtractConfig) -> Manifest:
    names = [name for name, _, _ in plan.images]
    unreadable: dict[str, str] = {}
    shards: list[tuple[str, int, int]] = []
    fields: dict[str, tuple[str, tuple[int, ...]]] = {}
    for shard in plan.shards:
        path = folder / shard.file
        own = unreadable_of(path)
        unreadable |= {names[shard.start + place]: reason for place, reason in own.items()}
        shards.append((shard.file, path.stat().st_size, len(shard.paths) - len(own)))
        if not fields and len(own) < len(shard.paths):
            tensors = open_shard(path).tensors
            fields = {
                name: (str(value.dtype).removeprefix("torch."), tuple(value.shape[1:]))
                for name, value in tensors.items()
            }
    if not fields:
        first = next(iter(unreadable.values()))
        raise StoreError(f"none of the {len(names)} pictures of {plan.name} can be read; the first: {first}")
    return Manifest(
        name=plan.name,
        encoder=plan.encoder,
        words=encoder.words,
        batch_size=config.batch_size,
        versions=library_versions(),
        fields=fields,
        bytes=sum(size for _, size, _ in shards),
        shards=tuple(shards),
        unreadable=unreadable,
        images=plan.images,
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
