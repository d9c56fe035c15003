from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.decoder import normalise, train_bpe

CAPTIONS = (
    "A man's dog runs after 3 running dogs.",
    "A dog runs 12 times!",
    "Two men and a running dog.",
    "the dogs run and the men run",
    "the gunman and the runner",
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]


def joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair and not out[-1].endswith("\0"):
            out[-1] = out[-1] + piece + "\0"  # just joined: no part of a further join in this pass
        else:
            out.append(piece)
    return tuple(piece.rstrip("\0") for piece in out)


def slow_bpe(captions: tuple[str, ...], size: int, min_count: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Algorithm 1 of Sennrich et al. 2016; among pairs of one count, that of the lowest ids."""
    words = Counter(tuple("▁" + word) for caption in captions for word in normalise(caption).split())
    tokens = SPECIAL + sorted({piece for word in words for piece in word})
    merges: list[tuple[str, str]] = []
    while len(tokens) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], tokens.index(pair[0]), tokens.index(pair[1])), default=None)
        if best is None or pairs[best] < min_count:
            break
        merges.append(best)
        tokens.append("".join(best))
        merged: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            merged[joined(word, best)] += count
        words = merged
    return tokens, merges


@pytest.mark.parametrize(("size", "min_count"), [(40, 1), (60, 1), (200, 2), (200, 3)])
def test_pieces_are_those_of_the_slow_algorithm(size: int, min_count: int):
    tokenizer = train_bpe(CAPTIONS, size=size, min_count=min_count)
    tokens, merges = slow_bpe(CAPTIONS, size, min_count)
    assert list(tokenizer.words) == tokens
    for caption in (*CAPTIONS, "unseen urged gem"):
        words = [tuple("▁" + word) for word in normalise(caption).split()]
        for pair in merges:
            words = [joined(word, pair) for word in words]
        expected = [tokens.index(piece) for word in words for piece in word]
        assert tokenizer.encode([caption]).tokens[0].tolist() == [tokenizer.bos, *expected, tokenizer.eos]


@pytest.mark.parametrize("numbers", [False, True])
def test_numbers_are_whole_if_wanted_wherever_they_stand(numbers: bool):
    tokenizer = train_bpe(CAPTIONS, size=55, min_count=1, numbers=numbers)
    assert len(tokenizer) == 55
    (row,) = tokenizer.encode(["12 dogs, 3.5 men and 7"]).tokens
    pieces = tokenizer.tokenizer.convert_ids_to_tokens(row.tolist())
    assert pieces.count("<num>") == (3 if numbers else 0)
    assert tokenizer.decode(row) == ("<num> dogs <num> men and <num>" if numbers else "12 dogs 3 men and")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="abc d1.<>num", max_size=12), min_size=1, max_size=4), st.booleans())
def test_text_in_known_characters_comes_back(captions: list[str], numbers: bool):
    tokenizer = train_bpe(["abcd 1 num e 2", *captions], size=55, min_count=1, numbers=numbers)
    told = tokenizer.encode(captions)
    assert [tokenizer.decode(row) for row in told.tokens] == [normalise(c, numbers=numbers) for c in captions]


def test_unknown_characters_are_the_unknown_token():
    tokenizer = train_bpe(CAPTIONS, size=60, min_count=1)
    (row,) = tokenizer.encode(["dog ж"]).tokens
    assert tokenizer.unk in row.tolist()
    assert tokenizer.decode(row) == "dog"
    assert tokenizer.unspoken == (tokenizer.pad, tokenizer.bos, tokenizer.unk)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        train_bpe(CAPTIONS, min_count=0)
    for nothing in ([], ["", " . "]):
        with pytest.raises(ValueError, match="hold no word"):
            train_bpe(nothing)
    with pytest.raises(ValueError, match=r"size must exceed the \d+ characters and special tokens.*got 10"):
        train_bpe(CAPTIONS, size=10)
