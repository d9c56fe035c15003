"""Measures that stand beside the metrics: what they are called, how they are printed, and what a set of them is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one of `MEASURES` is."""

    unit: Literal["percent", "words"]
    """Percent: kept as a fraction and printed as percent, as the metrics are. Words: a number of words."""
    better: Literal["higher", "lower"] | None
    """None where neither end is good."""
    says: str
    """What it counts, for a legend."""


MEASURES: Mapping[str, Measure] = {
    "CLIPScore": Measure(
        unit="percent", better="higher", says="2.5 x cosine of picture and caption (Hessel et al. 2021)"
    ),
    "RefCLIPScore": Measure(
        unit="percent", better="higher", says="harmonic mean of CLIPScore and the nearest reference's cosine"
    ),
    "CHAIRs": Measure(
        unit="percent", better="lower", says="captions that name an object that is not there (Rohrbach et al. 2018)"
    ),
    "CHAIRi": Measure(unit="percent", better="lower", says="named objects that are not there"),
    "distinct-1": Measure(unit="percent", better="higher", says="different words, of all words said"),
    "distinct-2": Measure(unit="percent", better="higher", says="different pairs of words, of all pairs said"),
    "vocabulary": Measure(unit="words", better="higher", says="different words said"),
    "length": Measure(unit="words", better=None, says="words of a caption"),
    "novelty": Measure(unit="percent", better=None, says="captions that are no training caption"),
    "repetition": Measure(unit="percent", better="lower", says="captions that say something twice in a row"),
}
"""In the order of the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a set of captions measured."""

    corpus: Mapping[str, float] = field(default_factory=dict)
    """Measure (of MEASURES) -> value of the set, a fraction or a number of words."""
    per_image: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Measure -> image -> value. distinct-n, vocabulary and CHAIRi of the set are not the means of these."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Measure -> why it is not there, and the way to get it."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def joined(cls, several: Iterable["Measures"]) -> "Measures":
        """All of several in one, in the order of MEASURES."""
        several = tuple(several)
        corpus = {name: value for one in several for name, value in one.corpus.items()}
        per_image = {name: values for one in several for name, values in one.per_image.items()}
        missing = {name: why for one in several for name, why in one.missing.items()}
        return cls(
            corpus={name: corpus[name] for name in MEASURES if name in corpus},
            per_image={name: per_image[name] for name in MEASURES if name in per_image},
            missing={name: missing[name] for name in MEASURES if name in missing},
            warnings=tuple(dict.fromkeys(warning for one in several for warning in one.warnings)),
        )


def in_print(name: str, value: float) -> float:
    """A measure's value in the unit that it is printed in."""
    return 100 * value if MEASURES[name].unit == "percent" else value


def measure_text(name: str, value: float) -> str:
    """A measure as printed: one decimal, none where it counts the words of a whole set."""
    return f"{value:,.0f}" if name == "vocabulary" else f"{in_print(name, value):.1f}"
