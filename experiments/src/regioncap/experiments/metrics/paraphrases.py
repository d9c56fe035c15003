"""METEOR's table of paraphrases, cut down to the words of the captions that are scored.

The table has 5.3 million pairs of phrases in 272 MB of text. Reading it is nearly all of METEOR's start, and METEOR
holds it in 0.3 GB. But a pair can only match where all its words stand in the captions, so METEOR finds the same
matches in the pairs that are made of these words: one in ten for a thousand images.
"""

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, Shaped, UInt8

_READ_AT_ONCE = 1 << 20
"""Compressed bytes that are taken apart together: some 5 MB of text."""
_PROBABILITY = b"1"
"""METEOR reads a probability in front of every pair and does not use it."""


class ParaphraseTable:
    """P pairs of phrases as word numbers, in the order of METEOR's file. W words in all phrases together."""

    def __init__(
        self,
        vocabulary: Shaped[np.ndarray, " V"],
        words: Shaped[np.ndarray, " W"],
        lengths: UInt8[np.ndarray, " P2"],
    ) -> None:
        self.vocabulary = vocabulary
        """The words themselves, UTF-8."""
        self.words = words
        """Word numbers, phrase after phrase: those of a pair follow each other."""
        self.lengths = lengths
        """Words of each phrase, two entries a pair."""

    @classmethod
    def read(cls, file: Path) -> "ParaphraseTable":
        """Take METEOR's own file apart: triples of lines, a probability and the two phrases, compressed."""
        numbers: dict[bytes, int] = {}
        words, lengths = [], []
        rest = b""
        for piece in _unpacked(file):
            some, of_phrase, rest = _phrases(rest + piece)
            distinct = some.dictionary_encode()
            own = [numbers.setdefault(word.rstrip(b"\n"), len(numbers)) for word in distinct.dictionary.to_pylist()]
            words.append(np.array(own, dtype=np.int32)[distinct.indices.to_numpy()])
            lengths.append(of_phrase)
        smallest = np.min_scalar_type(max(1, len(numbers)))
        return cls(
            np.array(list(numbers), dtype=np.bytes_), np.concatenate(words).astype(smallest), np.concatenate(lengths)
        )

    @classmethod
    def open(cls, file: Path, folder: Path) -> "ParaphraseTable":
        """`read`, kept in `folder` for the next time; where that cannot be written, it is read again then."""
        kept = folder / f"paraphrases-{_checksum(file)}.npz"
        try:
            with np.load(kept, allow_pickle=False) as arrays:
                return cls(arrays["vocabulary"], arrays["words"], arrays["lengths"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            table = cls.read(file)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=folder, prefix=".draft-", delete=False) as draft:
                try:
                    np.savez(draft, vocabulary=table.vocabulary, words=table.words, lengths=table.lengths)
                    draft.close()
                    os.replace(draft.name, kept)
                except BaseException:
                    os.unlink(draft.name)
                    raise
        except OSError:
            return table  # a second of work next time is no reason to fail, or to speak
        return table

    def within(self, words: Set[str]) -> Int[np.ndarray, " Q"]:
        """The pairs that are made of these words alone, ascending."""
        known = np.array([word.decode() in words for word in self.vocabulary.tolist()], dtype=bool)
        return np.flatnonzero(np.logical_and.reduceat(known[self.words], self._starts()))

    def text(self, pairs: Int[np.ndarray, " Q"]) -> bytes:
        """These pairs as a file that METEOR reads; it wants it compressed, here in name only."""
        lengths = self.lengths.reshape(-1, 2)[pairs].astype(np.int64)
        starts, of_pair = self._starts()[pairs], lengths.sum(axis=1)
        places = np.arange(of_pair.sum()) + np.repeat(starts - np.cumsum(of_pair) + of_pair, of_pair)
        words = pa.array(self.vocabulary.tolist(), pa.binary()).take(pa.array(self.words[places]))
        bounds = np.concatenate([[0], np.cumsum(lengths.ravel())]).astype(np.int32)
        phrases = pc.binary_join(pa.ListArray.from_arrays(pa.array(bounds), words), b" ")
        firsts, seconds = (phrases.take(pa.array(np.arange(side, len(phrases), 2))) for side in (0, 1))
        lines = pc.binary_join_element_wise(_PROBABILITY, firsts, seconds, b"", b"\n")
        return gzip.compress(b"".join(lines.to_pylist()), compresslevel=0)

    def _starts(self) -> Int[np.ndarray, " P"]:
        """Where each pair's words begin."""
        of_pair = self.lengths.reshape(-1, 2).sum(axis=1, dtype=np.int64)
        starts: Int[np.ndarray, " P"] = np.cumsum(of_pair) - of_pair
        return starts


def _unpacked(file: Path) -> Iterator[bytes]:
    """The text inside, in pieces; the next one is unpacked while the caller works on this one."""
    unpack = zlib.decompressobj(zlib.MAX_WBITS + 16)  # of gzip's format

    def unpacked() -> bytes | None:
        piece = packed.read(_READ_AT_ONCE)
        return unpack.decompress(piece) if piece else None

    with file.open("rb") as packed, ThreadPoolExecutor(1) as beside:
        coming = beside.submit(unpacked)
        while (piece := coming.result()) is not None:
            coming = beside.submit(unpacked)
            yield piece


def _phrases(text: bytes) -> tuple[pa.Array, UInt8[np.ndarray, " P2"], bytes]:
    """The words of all phrases, how many of them each phrase has, and the unfinished triple at the end.

    The last word of a phrase still has its line break.
    """
    breaks = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")) + 1
    breaks = breaks[: len(breaks) // 3 * 3]
    end = int(breaks[-1]) if len(breaks) else 0
    bounds = np.concatenate([[0], breaks]).astype(np.int32)
    lines = pa.Array.from_buffers(
        pa.binary(), len(breaks), [None, pa.py_buffer(bounds.tobytes()), pa.py_buffer(text[:end])]
    )
    phrases = lines.take(pa.array(np.flatnonzero(np.arange(len(breaks)) % 3)))
    words = pc.split_pattern(phrases, b" ")
    return words.flatten(), np.diff(words.offsets.to_numpy()).astype(np.uint8), text[end:]


def _checksum(file: Path) -> str:
    """CRC-32 and size of the text inside, from the end of the compressed file."""
    with file.open("rb") as compressed:
        compressed.seek(-8, os.SEEK_END)
        return compressed.read().hex()
