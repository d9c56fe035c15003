"""METEOR's table of paraphrases, cut down to the phrases of the captions that are scored.

The table has 5.3 million pairs of phrases in 272 MB of text. Reading it is nearly all of METEOR's start, and METEOR
holds it in 0.3 GB. But a pair can only match where both its phrases stand in the captions, so METEOR finds the same
matches among those pairs alone: one in a hundred for a thousand images.
"""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Shaped, UInt8, UInt64

from regioncap.experiments.metrics.kept_arrays import read_arrays, write_arrays

_READ_AT_ONCE = 1 << 21
"""Compressed bytes that are taken apart together: some 9 MB of text."""
_PROBABILITY = b"1"
"""METEOR reads a probability in front of every pair and does not use it."""
_LAYOUT = 1
"""Part of a kept file's name: raise it when the arrays change, and old files are left alone."""
_ARRAYS = ("vocabulary", "words", "lengths", "hashes", "pairs")
_LONGEST = 255
"""Words of a phrase at most; the longest has seven."""
# Phrases are found by a hash of their words' numbers, sum_k r(word_k) c^k mod 2^64. Two phrases with the same one would
# only keep a pair too many.
_WEIGHTS = np.cumprod(np.full(_LONGEST, 0x9E3779B97F4A7C15, dtype=np.uint64))


class ParaphraseTable:
    """P pairs of F different phrases, W words in all phrases together, V different words."""

    def __init__(
        self,
        vocabulary: Shaped[np.ndarray, " V"],
        words: Shaped[np.ndarray, " W"],
        lengths: UInt8[np.ndarray, " F"],
        hashes: UInt64[np.ndarray, " F"],
        pairs: Int[np.ndarray, "P 2"],
    ) -> None:
        self.vocabulary = vocabulary
        """The words themselves, UTF-8."""
        self.words = words
        """Word numbers, phrase after phrase."""
        self.lengths = lengths
        self.hashes = hashes
        """Ascending."""
        self.pairs = pairs
        """Phrase numbers, in the order of METEOR's file."""
        self._numbers = {word.decode(): number for number, word in enumerate(vocabulary.tolist())}
        self._starts = np.cumsum(lengths, dtype=np.int64) - lengths

    @classmethod
    def read(cls, file: Path) -> "ParaphraseTable":
        """Take METEOR's own file apart: triples of lines, a probability and the two phrases, compressed."""
        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own gives pieces back to the system and takes them anew
        numbers: dict[bytes, int] = {}
        words, lengths, hashes = [], [], []
        for some, of_phrase in _phrases(file):
            distinct = some.dictionary_encode()
            own = np.array(
                [numbers.setdefault(word.rstrip(b"\n"), len(numbers)) for word in distinct.dictionary.to_pylist()],
                dtype=np.int32,
            )
            places = distinct.indices.to_numpy()
            words.append(own[places].astype(np.min_scalar_type(len(numbers))))
            lengths.append(of_phrase)
            hashes.append(_hashes(_random(own)[places], of_phrase))
        return _distinct(cls, list(numbers), np.concatenate(words), np.concatenate(lengths), np.concatenate(hashes))

    @classmethod
    def open(cls, file: Path, folder: Path) -> "ParaphraseTable":
        """`read`, kept in `folder` for the next time; where that cannot be written, it is read again then."""
        kept = folder / f"paraphrases-{_checksum(file)}-{_LAYOUT}.npz"
        arrays = read_arrays(kept)
        if arrays is not None and set(arrays) == set(_ARRAYS):
            return cls(**arrays)
        table = cls.read(file)
        # Seconds of work next time are no reason to fail, or to speak.
        with suppress(OSError):
            write_arrays(kept, {name: getattr(table, name) for name in _ARRAYS})
        return table

    def phrases_in(self, captions: Sequence[str]) -> Bool[np.ndarray, " F"]:
        """Which phrases stand in one of these captions, words separated by spaces."""
        get, nothing = self._numbers.get, -1
        words = np.array(
            [get(word, nothing) for caption in captions for word in (*caption.split(), "\n")], dtype=np.int64
        )
        found = np.zeros(len(self.lengths), dtype=bool)
        so_far, known = np.zeros(len(words), dtype=np.uint64), np.ones(len(words), dtype=bool)
        for order in range(int(self.lengths.max(initial=0))):
            ahead = words[order:]
            so_far, known = so_far[: len(ahead)], known[: len(ahead)] & (ahead >= 0)
            so_far = so_far + _random(ahead) * _WEIGHTS[order]
            wanted = np.unique(so_far[known])
            place = np.searchsorted(self.hashes, wanted).clip(max=len(self.hashes) - 1)
            found[place[self.hashes[place] == wanted]] = True
        return found

    def among(self, phrases: Bool[np.ndarray, " F"]) -> Int[np.ndarray, "Q 2"]:
        """The pairs of which both phrases are among these."""
        both: Int[np.ndarray, "Q 2"] = self.pairs[phrases[self.pairs[:, 0]] & phrases[self.pairs[:, 1]]]
        return both

    def text(self, pairs: Int[np.ndarray, "Q 2"]) -> bytes:
        """Pairs as a file that METEOR reads; it wants it compressed, here in name only."""
        wanted = pairs.ravel()
        places, lengths = _spread(self._starts[wanted], self.lengths[wanted])
        words = pa.array(self.vocabulary.tolist(), pa.binary()).take(pa.array(self.words[places]))
        bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        phrases = pc.binary_join(pa.ListArray.from_arrays(pa.array(bounds), words), b" ").to_pylist()
        lines = (
            b"\n".join((_PROBABILITY, one, other, b"")) for one, other in zip(phrases[::2], phrases[1::2], strict=True)
        )
        return gzip.compress(b"".join(lines), compresslevel=0)


def _phrases(file: Path) -> Iterator[tuple[pa.Array, UInt8[np.ndarray, " P2"]]]:
    """The words of all phrases, how many of them each phrase has, piece by piece.

    The last word of a phrase still has its line break. The next piece is unpacked while the caller works on this one.
    """
    unpack = zlib.decompressobj(zlib.MAX_WBITS + 16)  # of gzip's format
    rest = b""

    def piece() -> tuple[pa.Array, UInt8[np.ndarray, " P2"]] | None:
        nonlocal rest
        packed = compressed.read(_READ_AT_ONCE)
        if not packed:
            return None
        text = rest + unpack.decompress(packed)
        words, lengths, end = _split(text)
        rest = text[end:]
        return words, lengths

    with file.open("rb") as compressed, ThreadPoolExecutor(1) as beside:
        coming = beside.submit(piece)
        while (some := coming.result()) is not None:
            coming = beside.submit(piece)
            yield some


def _split(text: bytes) -> tuple[pa.Array, UInt8[np.ndarray, " P2"], int]:
    """See `_phrases`; and where the last whole triple ends."""
    breaks = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")) + 1
    breaks = breaks[: len(breaks) // 3 * 3]
    end = int(breaks[-1]) if len(breaks) else 0
    bounds = np.concatenate([[0], breaks]).astype(np.int32)
    lines = pa.Array.from_buffers(pa.binary(), len(breaks), [None, pa.py_buffer(bounds.tobytes()), pa.py_buffer(text)])
    phrases = lines.take(pa.array(np.arange(len(breaks)).reshape(-1, 3)[:, 1:].ravel()))
    words = pc.split_pattern(phrases, b" ")
    return words.flatten(), np.diff(words.offsets.to_numpy()).astype(np.uint8), end


def _hashes(randoms: UInt64[np.ndarray, " W"], lengths: UInt8[np.ndarray, " F"]) -> UInt64[np.ndarray, " F"]:
    """Hashes of phrases from their words' random numbers."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    if not len(starts):
        return np.zeros(0, dtype=np.uint64)
    order = np.arange(len(randoms)) - np.repeat(starts, lengths)
    return np.asarray(np.add.reduceat(randoms * _WEIGHTS[order], starts))


def _random(words: Int[np.ndarray, " W"]) -> UInt64[np.ndarray, " W"]:
    """A fixed random 64-bit number for each word's: the finaliser of SplitMix64 (Steele et al. 2014)."""
    x = (words.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _distinct(
    kind: type[ParaphraseTable],
    vocabulary: list[bytes],
    words: Shaped[np.ndarray, " W"],
    lengths: UInt8[np.ndarray, " P2"],
    hashes: UInt64[np.ndarray, " P2"],
) -> ParaphraseTable:
    """The table, with each phrase once, in the order of the hashes."""
    encoded = pa.array(hashes).dictionary_encode()
    number = encoded.indices.to_numpy()
    newest = np.maximum.accumulate(number)
    first = np.flatnonzero(np.concatenate([[True], newest[1:] != newest[:-1]]))  # where each phrase stands first
    order = np.argsort(hashes[first])
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    first = first[order]
    places, of_phrase = _spread((np.cumsum(lengths, dtype=np.int64) - lengths)[first], lengths[first])
    return kind(
        np.array(vocabulary, dtype=np.bytes_),
        words[places],
        of_phrase.astype(np.uint8),
        hashes[first],
        rank[number].reshape(-1, 2),
    )


def _spread(
    starts: Int[np.ndarray, " F"], lengths: UInt8[np.ndarray, " F"]
) -> tuple[Int[np.ndarray, " W"], Int[np.ndarray, " F"]]:
    """The places from each start on, as many as its length says; and the lengths, wide enough to be summed."""
    lengths = lengths.astype(np.int64)
    return np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths), lengths


def _checksum(file: Path) -> str:
    """CRC-32 and size of the text inside, from the end of the compressed file."""
    with file.open("rb") as compressed:
        compressed.seek(-8, os.SEEK_END)
        return compressed.read().hex()
