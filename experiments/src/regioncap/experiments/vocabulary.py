"""Which tokens captions are made of, and the tokenizer that knows them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from regioncap.decoder import CaptionTokenizer, stored_tokenizer, train_bpe, train_words


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyConfig:
    """The tokenizer, trained on the training captions.

    With `decoder.weights` it is the one stored beside the weights, and of these fields `max_tokens` alone has a say.
    """

    kind: Literal["words", "bpe"] = "words"
    """`words`: a token for each frequent word. `bpe`: byte-pair encoding, pieces of words, so that none is unknown."""
    min_count: int = 5
    """`words` seen less often become the unknown word; pairs of pieces seen less often are not joined by `bpe`."""
    size: int = 4000
    """Most tokens that `bpe` may have."""
    max_tokens: int = 32
    """Longer training captions are cut here; the begin and end marks count."""

    def __post_init__(self) -> None:
        if self.min_count < 1 or self.max_tokens < 2:
            raise ValueError(
                f"vocabulary.min_count and vocabulary.max_tokens must be at least 1 and 2, got {self.min_count} and "
                f"{self.max_tokens}"
            )
        if self.size < 1:
            raise ValueError(f"vocabulary.size must be at least 1, got {self.size}")

    def tokenizer(self, captions: Sequence[str], weights: str | None, *, numbers: bool = False) -> CaptionTokenizer:
        """Trained on `captions`, or read from the folder or hub name `weights` of a stored decoder.

        With `numbers` a number is `<num>`, as `data.text` has it. Raises ValueError for captions that leave no token,
        or weights without a tokenizer, or with one that has other numbers.
        """
        if weights is not None:
            return _with_same_numbers(stored_tokenizer(weights, numbers=numbers), weights, numbers)
        if self.kind == "bpe":
            return train_bpe(captions, size=self.size, min_count=self.min_count, numbers=numbers)
        return train_words(captions, min_count=self.min_count, numbers=numbers)


def tokenizer_key(tokenizer: CaptionTokenizer) -> str:
    """A digest of all that a tokenizer does, for what is kept under it."""
    special = (tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.unk)
    return hashlib.sha256(f"{special} {tokenizer.tokenizer.backend_tokenizer.to_str()}".encode()).hexdigest()[:20]


def _with_same_numbers(tokenizer: CaptionTokenizer, weights: str, numbers: bool) -> CaptionTokenizer:
    """A tokenizer of ours, stored beside a decoder that learned from text, has numbers as that text had them."""
    if (tokenizer.normalise("7") != "7") != numbers:
        has, form = ("the words that they are", "as-written") if numbers else ("<num>", "normalised")
        raise ValueError(
            f"decoder.weights: to the tokenizer at {weights} numbers are {has}, which is not what data.text.captions "
            f"says: give --data.text.captions {form}, or pre-train the decoder again with the flag as it is here"
        )
    return tokenizer
