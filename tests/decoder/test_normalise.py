import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.decoder import normalise


def test_ascii_captions_are_normalised_as_section_4_2_says():
    for caption in ("A man's dog runs.", "T-shirt, 12 (or 3.5) dogs!!  & more", "\ta  b\n", ""):
        spaced = caption.lower().translate({ord(c): " " for c in string.punctuation})
        assert normalise(caption) == " ".join(spaced.split())


def test_numbers_become_one_word():
    assert normalise("12 dogs, 3.5 cats: 1,000. On 2nd street", numbers=True) == (
        "<num> dogs <num> cats <num> on 2nd street"
    )
    assert normalise("v1.5, .5 and (7)", numbers=True) == "v1 <num> <num> and <num>"
    assert normalise("12 dogs") == "12 dogs"


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="a1.,-_ <num>", max_size=20)), st.booleans())
def test_normalising_twice_changes_nothing(caption: str, numbers: bool):
    once = normalise(caption, numbers=numbers)
    assert normalise(once, numbers=numbers) == once
    assert not re.search(r"\s\s|^\s|\s$", once)
