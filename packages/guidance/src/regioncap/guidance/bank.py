"""Keyword banks: the words guidance may choose from, how often they were seen, and where they lie in text space."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WORDS_FILE = "words.tsv"
EMBEDDINGS_FILE = "embeddings.safetensors"
HEADER = "word\tcount"
LIKE = 0.6
"""Least likeness, of difflib's 0 to 1, of a word that is offered instead of a misspelt one."""


class BankError(ValueError):
    """A keyword bank, in memory or on disk, cannot be used; the message names the entry or file and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeywordBank:
    """Words or phrases with their text embeddings (DESIGN 4.3). W words, E embedding width.

    On disk a folder: `words.tsv` (word, count; made to be read) and `embeddings.safetensors` (row i is word i).
    Raises BankError for a bank without a counted word, a word given twice or holding a tab or line break, a negative
    count, embeddings that are no finite W x E matrix, or a number of counts or rows other than the number of words.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    """How many training captions hold each word; 0 for a word that `with_words` added and none of them holds."""
    embeddings: Float[Tensor, "W E"]
    """From the text tower whose image tower gives g, for a scene bank; from any text encoder, for a detail bank."""

    def __post_init__(self) -> None:
        if not self.words:
            raise BankError("a keyword bank needs at least one word, got none; lower min_count or give more captions")
        twice = [word for word, times in Counter(self.words).items() if times > 1]
        if twice:
            raise BankError(f"keyword bank holds '{twice[0]}' more than once; give every word once")
        broken = [word for word in self.words if not word.strip() or len(word.splitlines()) > 1 or "\t" in word]
        if broken:
            raise BankError(f"keyword bank holds {broken[0]!r}; a word must not be blank nor hold a tab or line break")
        if len(self.counts) != len(self.words):
            raise BankError(f"keyword bank has {len(self.counts)} counts for {len(self.words)} words; give each one")
        if min(self.counts) < 0:
            word = self.words[self.counts.index(min(self.counts))]
            raise BankError(f"keyword bank counts '{word}' {min(self.counts)} times; want 0 (an added word) or more")
        if max(self.counts) == 0:
            raise BankError("keyword bank has added words alone; it needs one that training captions hold")
        shape = tuple(self.embeddings.shape)
        if len(shape) != 2 or shape[0] != len(self.words) or shape[1] == 0:
            raise BankError(f"keyword bank embeddings must be {len(self.words)} (words) x width, got {shape}")
        if not bool(torch.isfinite(self.embeddings).all()):
            raise BankError("keyword bank embeddings hold nan or inf; embed the words again")

    @classmethod
    def embed(cls, counts: Mapping[str, int], encode: Callable[[Sequence[str]], Tensor]) -> "KeywordBank":
        """The bank of the words in `counts`, in its order; `encode` maps W texts to a W x E tensor."""
        words = tuple(counts)
        if not words:
            raise BankError("no words to build a keyword bank from; lower min_count or give more captions")
        return cls(words=words, counts=tuple(counts.values()), embeddings=_embedded(words, encode))

    @property
    def width(self) -> int:
        """Width E of the embeddings."""
        return self.embeddings.shape[1]

    def __len__(self) -> int:
        return len(self.words)

    def find(self, word: str) -> int | None:
        """The row of a word as people type it (case and spaces do not matter), None if it is not in the bank."""
        for wanted in (word, _plain(word)):
            if wanted in self.words:
                return self.words.index(wanted)
        return next((row for row, own in enumerate(self.words) if _plain(own) == _plain(word)), None)

    def nearest_words(self, text: str, count: int = 3) -> tuple[str, ...]:
        """At most `count` words spelt like `text`, likest first; none where nothing is like it."""
        plain = {_plain(word): word for word in reversed(self.words)}  # of words that differ in case, the first
        return tuple(plain[word] for word in get_close_matches(_plain(text), plain, n=count, cutoff=LIKE))

    def nearest_in_meaning(self, embedding: Float[Tensor, " E"], count: int = 3) -> tuple[str, ...]:
        """The `count` words whose embeddings, less what all words share, point the most as this one does."""
        centre = self.embeddings.mean(0)
        alike = torch.cosine_similarity(self.embeddings - centre, (embedding - centre)[None])
        return tuple(self.words[row] for row in alike.topk(min(count, len(self))).indices.tolist())

    def unknown(self, word: str, bank: str) -> BankError:
        """The error to raise for a word that is not in the `bank` ("scene", "detail"), with the nearest that are."""
        like = self.nearest_words(word)
        nearest = f"nearest: {', '.join(like)}" if like else "none is spelt like it"
        return BankError(f"no word '{word}' in the {bank} bank; {nearest}; the bank's {WORDS_FILE} lists all")

    def with_words(self, words: Sequence[str], encode: Callable[[Sequence[str]], Tensor]) -> "KeywordBank":
        """The bank and after its words those of `words` that it lacks, embedded by `encode` now and counted 0 times.

        Rows of the words that were there stay what they were, and so does all that `StandardisedSimilarity` knows.
        Raises BankError for an embedding of another width than the bank's.
        """
        new = tuple(dict.fromkeys(" ".join(word.split()) for word in words if self.find(word) is None))
        if not new:
            return self
        embeddings = _embedded(new, encode)
        if embeddings.shape[1] != self.width:
            raise BankError(f"words embedded at width {embeddings.shape[1]} cannot join a bank of width {self.width}")
        return KeywordBank(
            words=self.words + new,
            counts=self.counts + (0,) * len(new),
            embeddings=torch.cat([self.embeddings, embeddings]),
        )

    def save(self, folder: Path) -> None:
        """Write the bank into `folder`, which is made where missing."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [HEADER, *(f"{word}\t{count}" for word, count in zip(self.words, self.counts, strict=True))]
        (folder / WORDS_FILE).write_text("\n".join(rows) + "\n", encoding="utf-8")
        save_file({"embeddings": self.embeddings.detach().cpu().contiguous()}, folder / EMBEDDINGS_FILE)

    @classmethod
    def load(cls, folder: Path) -> "KeywordBank":
        """Read a saved bank. Raises BankError naming the file that is missing or of the wrong form."""
        for name in (WORDS_FILE, EMBEDDINGS_FILE):
            if not (folder / name).is_file():
                raise BankError(f"keyword bank {folder} has no {name}; save the bank there again")
        words, counts = _read_words(folder / WORDS_FILE)
        embeddings = _read_embeddings(folder / EMBEDDINGS_FILE)
        try:
            return cls(words=words, counts=counts, embeddings=embeddings)
        except BankError as error:
            raise BankError(f"{folder}: {error}") from None


@torch.no_grad()
def _embedded(words: Sequence[str], encode: Callable[[Sequence[str]], Tensor]) -> Tensor:
    return encode(words).detach().float().cpu().contiguous()


def _plain(word: str) -> str:
    return " ".join(word.lower().split())


def _read_words(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BankError(f"{path} is not UTF-8 text ({error.reason}); save the bank again") from None
    if not lines or lines[0] != HEADER:
        raise BankError(f"{path} must begin with the line {HEADER!r}, got {(lines[0] if lines else 'an empty file')!r}")
    words, counts = [], []
    for number, line in enumerate(lines[1:], start=2):
        word, tab, count = line.rpartition("\t")
        if not tab or not count.isdecimal():
            raise BankError(f"{path} line {number}: wanted a word, a tab and a count, got {line!r}")
        words.append(word)
        counts.append(int(count))
    return tuple(words), tuple(counts)


def _read_embeddings(path: Path) -> Tensor:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BankError(f"{path} is not a safetensors file ({error}); save the bank again") from None
    if list(tensors) != ["embeddings"]:
        raise BankError(f"{path} must hold one tensor 'embeddings', got {sorted(tensors) or 'none'}")
    return tensors["embeddings"].float()
