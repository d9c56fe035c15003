"""Read a store back as the dataclasses that the encoder returned."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from regioncap.encoders.image_features import ImageFeatures
from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.layout import Shard, assemble, unpack
from regioncap.encoders.store.manifest import Manifest, read_manifest
from regioncap.encoders.store.shard_file import open_shard


class FeatureStore:
    """Encoded images, n of them, mapped from disk: what is not asked for is not read.

    Half precision on disk (boxes and scores float32), float32 in memory.
    """

    def __init__(self, folder: Path, manifest: Manifest, shards: Sequence[Shard], rows: Sequence[int]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._shards = shards
        self._rows = rows
        self._ends = list(accumulate(len(shard) for shard in shards))
        stored = manifest.names
        self.names = tuple(stored[row] for row in rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def unreadable(self) -> dict[str, str]:
        """Images that were to be encoded and could not be read, and why; they are no rows."""
        return dict(self.manifest.unreadable)

    @property
    def words(self) -> tuple[str, ...]:
        """What `Regions.words` index."""
        return self.manifest.words

    @property
    def pooled_dim(self) -> int:
        """G, the width of the activations before the CLIP-style head."""
        return self.manifest.fields["pooled"][1][-1]

    @property
    def region_dim(self) -> int:
        """R, the raw region width."""
        return self.manifest.fields["regions.features"][1][-1]

    def images(self, rows: Int[Tensor, "B"]) -> ImageFeatures:
        """The features of these images, in this order. Slots that are padding in all of them are left out."""
        return assemble(ImageFeatures, unpack(*self._places(rows.tolist())))

    def pooled(self, rows: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B G"]:
        """`ImageFeatures.pooled` of these images, or of all, without reading their regions."""
        at = range(len(self)) if rows is None else rows.tolist()
        return unpack(*self._places(at), only="pooled")["pooled"]

    def take(self, rows: Int[Tensor, "k"]) -> "FeatureStore":
        """The same store with these images only, in this order."""
        return FeatureStore(self.folder, self.manifest, self._shards, [self._rows[row] for row in rows.tolist()])

    def _places(self, rows: Sequence[int]) -> tuple[list[Shard], list[int]]:
        """The shard of every row, and its row in it."""
        shards, places = [], []
        for row in rows:
            stored = self._rows[row]
            which = bisect_right(self._ends, stored)
            shards.append(self._shards[which])
            places.append(stored - (self._ends[which - 1] if which else 0))
        return shards, places


def open_store(folder: Path) -> FeatureStore:
    """Open a finished store. Raises StoreError if it is unfinished or damaged."""
    manifest = read_manifest(folder)
    shards = []
    for name, size, images in manifest.shards:
        path = folder / name
        try:
            # Mapped pages beyond the end of a file that was cut would end the process, not raise.
            found = path.stat().st_size
            if found != size:
                raise StoreError(f"{path} has {found} bytes, not {size}: run the extraction again, it mends the store")
            if images:
                shards.append(open_shard(path))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"{path} cannot be read ({error}): run the extraction again, it mends the store"
            ) from error
    return FeatureStore(folder, manifest, shards, range(len(manifest.names)))
