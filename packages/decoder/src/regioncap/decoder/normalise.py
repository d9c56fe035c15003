"""Captions as the decoder sees them: lower case, no punctuation, numbers as `<num>` where that is wanted."""

from tokenizers import Regex, normalizers
from tokenizers.normalizers import Normalizer

NUMBER = "<num>"
_HELD = "\ue000"  # stands for <num> while punctuation is removed; private use, which is removed before


def normalise(caption: str, *, numbers: bool = False) -> str:
    """A caption as the decoder sees it (paper, sec. 4.2): lower case, no punctuation, single spaces.

    Punctuation, symbols and control characters become spaces, so "a man's t-shirt" is "a man s t shirt": words that
    other captions share. With `numbers`, a number that stands alone ("12", "3.5", "1,000") becomes `<num>`; "2nd"
    stays. Applying it twice changes nothing.
    """
    return str(normaliser(numbers).normalize_str(caption))


def normaliser(numbers: bool) -> Normalizer:
    """The same as a part of a `tokenizers.Tokenizer`, so that it is stored with it."""
    steps = [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\p{C}+"), " ")]
    if numbers:
        steps += [
            normalizers.Replace(NUMBER, _HELD),
            normalizers.Replace(Regex(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)"), _HELD),
        ]
    steps.append(normalizers.Replace(Regex(r"[\p{P}\p{S}]+"), " "))
    if numbers:
        # Those that a point or a bracket joined to something else, as in ".5", stand alone now.
        steps += [normalizers.Replace(Regex(r"(?<!\w)\d+(?!\w)"), _HELD), normalizers.Replace(_HELD, NUMBER)]
    return normalizers.Sequence([*steps, normalizers.Replace(Regex(r"[\s\p{Z}]+"), " "), normalizers.Strip()])
