"""What a search is told in words, as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Wordings(Protocol):
    """What is needed of a tokenizer."""

    @property
    def unspoken(self) -> tuple[int, ...]:
        """Tokens that no caption contains."""
        ...

    def spellings(self, text: str) -> tuple[tuple[int, ...], ...]:
        """The ways in which `text` can stand in a caption, as token ids; the first is that at its beginning."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Token ids that a search never says, and those that it begins with."""

    suppress: tuple[int, ...] = ()
    """Tokens that are never said."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that are never said."""
    prompt: tuple[int, ...] = ()
    """How every caption begins, after bos."""

    @classmethod
    def of(cls, tokenizer: Wordings, *, bad_words: Sequence[str] = (), prompt: str = "") -> "Wording":
        """By a tokenizer. Raises ValueError for a word or prompt of which it knows nothing."""
        bad = tuple(ids for text in bad_words for ids in _spellings(tokenizer, text, "search.bad_words"))
        begins = _spellings(tokenizer, prompt, "search.prompt")[0] if prompt else ()
        return cls(suppress=tokenizer.unspoken, bad_words=bad, prompt=begins)


def _spellings(tokenizer: Wordings, text: str, name: str) -> tuple[tuple[int, ...], ...]:
    spellings = tokenizer.spellings(text)
    if not spellings or any(not ids or set(ids) & set(tokenizer.unspoken) for ids in spellings):
        raise ValueError(f"{name}: {text!r} holds a word that is not in the decoder's vocabulary")
    return spellings
