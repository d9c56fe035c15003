"""What a user wants of captions, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tyro

Words = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringOptions:
    """Edits of what guidance chose. Each may be given several times, or with commas between words."""

    add: Words = ()
    """Words that must count; a detail word goes to the region that shows it best. One that is in no keyword bank, such
    as "hot dog", is embedded on the spot if the decoder can say it. One that it cannot say, or only in pieces and much
    like a bank word ("surfbord"), is taken for a slip: an error names the nearest. So with the words of all flags."""
    drop: Words = ()
    """Words that must not: they leave guidance, and where the captioner has a word bias it is set against them.
    `--search.bad-words` forbids instead, whatever else the caption then has to say."""
    scene: Words = ()
    """Where the picture is: added, and the other places that guidance chose are dropped, unless --add names them."""
    region: Words = ()
    """NUMBER=WORDS, as in 3=surfboard or 3=red,surfboard: what a region shows, by the numbers of `--overlay` and
    `regioncap explain`. Objects replace the region's objects, attributes its attributes."""
    strength: float = 4.0
    """Log-odds that added words have at least, and that dropped ones lose."""

    def __post_init__(self) -> None:
        if not 0 < self.strength < float("inf"):
            raise ValueError(f"--strength must be positive and finite, got {self.strength}; 4 is usual")
        dropped = set(self.dropped)
        wanted = [*self.added, *self.scenes, *(word for words in self.regions.values() for word in words)]
        both = [word for word in wanted if word in dropped]
        if both:
            raise ValueError(f"'{both[0]}' is to be dropped and to be said: take it out of --drop or out of the others")

    @property
    def any(self) -> bool:
        """Whether anything is to be edited."""
        return bool(self.add or self.drop or self.scene or self.region)

    @property
    def added(self) -> tuple[str, ...]:
        """Words of --add as banks have them."""
        return _words(self.add, "--add")

    @property
    def dropped(self) -> tuple[str, ...]:
        """Words of --drop."""
        return _words(self.drop, "--drop")

    @property
    def scenes(self) -> tuple[str, ...]:
        """Words of --scene."""
        return _words(self.scene, "--scene")

    @property
    def regions(self) -> Mapping[int, tuple[str, ...]]:
        """Words of --region, by the region's number."""
        named: dict[int, tuple[str, ...]] = {}
        for text in self.region:
            number, _, words = text.partition("=")
            if not number.strip().isdecimal() or not words.strip():
                raise ValueError(f"--region wants NUMBER=WORDS, such as 3=surfboard, got {text!r}")
            at = int(number)
            named[at] = tuple(dict.fromkeys(named.get(at, ()) + _words((words,), f"--region {at}")))
        return named


def _words(texts: Sequence[str], flag: str) -> tuple[str, ...]:
    words = [" ".join(word.lower().split()) for text in texts for word in text.split(",")]
    if not all(words):
        raise ValueError(f"{flag} wants words, with commas between several, got {','.join(texts)!r}")
    return tuple(dict.fromkeys(words))
