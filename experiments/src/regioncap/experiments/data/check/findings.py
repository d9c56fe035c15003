"""What a health report says, as tables and lists, whatever it is then written as."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from regioncap.experiments.data.check.health import Health
from regioncap.experiments.data.dataset import CaptionedImage

_LONG = 30
"""Words that fit into a decoder's 32 tokens beside the marks of beginning and end (`vocabulary.max_tokens`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A title, columns and rows of text; all columns but the first hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Things of one kind that a person should look at."""

    title: str
    items: tuple[str, ...]


def verdict(health: Health) -> str:
    """One sentence: fit or not."""
    if health.problems:
        count = len(health.problems)
        return f"Not fit to train on: {count} problem{'s' if count > 1 else ''}, see below."
    looked = len(findings(health))
    return (
        "Fit to train on."
        if not looked
        else f"Fit to train on; {looked} thing{'s' if looked > 1 else ''} to look at, see below."
    )


def tables(health: Health) -> list[Table]:
    """The counts."""
    splits = Table(
        title="Splits",
        columns=("split", "images listed", "there", "with caption", "captions", "of one image"),
        rows=tuple(
            (
                split,
                f"{own.listed:,}",
                f"{own.there:,}",
                f"{own.captioned:,}",
                f"{own.captions:,}",
                str(own.fewest) if own.fewest == own.most else f"{own.fewest} to {own.most}",
            )
            for split, own in health.splits.items()
        ),
    )
    vocabulary = Table(
        title="Vocabulary of the training captions, by the least count of a word",
        columns=("seen at least", "words", "of training's words known", "of dev's words known"),
        rows=tuple(
            (
                str(row.min_count),
                f"{row.words:,}",
                f"{100 * row.train:.2f} %",
                "-" if row.dev is None else f"{100 * row.dev:.2f} %",
            )
            for row in health.captions.coverage
        ),
    )
    return [splits, _captions(health), vocabulary, _pictures(health)]


def findings(health: Health) -> list[Finding]:
    """What is not as it should be, problems left out; none that is empty."""
    found = [
        Finding(title="Pictures that are not there", items=tuple(map(str, health.missing))),
        Finding(title="Pictures that do not decode", items=tuple(picture.problem for picture in health.unreadable)),
        Finding(title="Pictures without caption", items=tuple(map(str, health.bare))),
        Finding(title="The same picture in two splits", items=tuple(map(_group, health.leaks))),
        Finding(title="The same picture twice in a split", items=tuple(map(_group, health.duplicates))),
        Finding(
            title="Captions that look wrong",
            items=tuple(f"{odd.image}: {odd.caption!r} ({odd.why})" for odd in health.captions.odd),
        ),
        Finding(
            title="Left out of the caption files",
            items=tuple(f"{count:,} x {why}" for why, count in health.skipped.items()),
        ),
    ]
    return [finding for finding in found if finding.items]


def _captions(health: Health) -> Table:
    lengths = health.captions.lengths
    count = sum(lengths.values())
    words = [length for length, times in lengths.items() for _ in range(times)] or [0]
    long = sum(times for length, times in lengths.items() if length > _LONG)
    return Table(
        title="Captions",
        columns=("", "all splits"),
        rows=(
            ("captions", f"{count:,}"),
            ("words, shortest / median / mean / longest", _spread(words)),
            (f"longer than {_LONG} words, cut in training", f"{long:,}"),
            ("the same again for one image", f"{health.captions.repeated:,}"),
            ("empty or hardly English", f"{len(health.captions.odd):,}"),
        ),
    )


def _pictures(health: Health) -> Table:
    sizes = [picture.size for picture in health.opened if not picture.problem] or [(0, 0)]
    return Table(
        title="Pictures",
        columns=("", "all splits"),
        rows=(
            ("in no split", f"{health.unlisted:,}"),
            ("opened", f"{len(health.opened):,}"),
            ("not readable", f"{len(health.unreadable):,}"),
            ("width, smallest / median / mean / largest", _spread([width for width, _ in sizes])),
            ("height, smallest / median / mean / largest", _spread([height for _, height in sizes])),
            ("the same to the byte, in two splits", f"{len(health.leaks):,}"),
            ("the same to the byte, in one split", f"{len(health.duplicates):,}"),
        ),
    )


def _spread(values: Sequence[int]) -> str:
    return f"{min(values)} / {median(values):g} / {sum(values) / len(values):.1f} / {max(values)}"


def _group(group: Sequence[tuple[str, CaptionedImage]]) -> str:
    return " = ".join(f"{image.path} ({split})" for split, image in group)
