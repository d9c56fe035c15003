from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.decoder import CaptionTokenizer, TokenSpread, stored_tokenizer, train_bpe, train_words

CAPTIONS = ("A man's dog runs.", "A dog runs 3 times!", "Two men in front of a fire hydrant.", "the red T-shirt")
WORDS = ("dog", "dogs", "fire hydrant", "zebra", "red dog", "RED", "in front of", "t-shirt", "Ж zebra", "...", "dog")


@pytest.fixture(params=["words", "bpe", "gpt2"])
def tokenizer(
    request: pytest.FixtureRequest, save_gpt2_tokenizer: Callable[[Path], Path], tmp_path: Path
) -> CaptionTokenizer:
    if request.param == "gpt2":
        return stored_tokenizer(str(save_gpt2_tokenizer(tmp_path / "gpt2")))
    if request.param == "bpe":
        return train_bpe(CAPTIONS, size=60, min_count=1)
    return train_words(CAPTIONS, min_count=1)


def first_tokens(tokenizer: CaptionTokenizer, phrase: str) -> set[int]:
    """By encoding each word behind another, as it stands in the middle of a caption."""
    found = set()
    for word in tokenizer.normalise(phrase).split():
        before, both = (tokenizer.encode([text]).tokens[0, 1:-1].tolist() for text in ("a", f"a {word}"))
        pieces = both[len(before) :]
        if tokenizer.unk == tokenizer.eos or tokenizer.unk not in pieces:
            found.add(pieces[0])
    return found


@settings(max_examples=40, deadline=None)
@given(scores=st.lists(st.floats(-5, 5, width=32), min_size=len(WORDS), max_size=len(WORDS)))
def test_words_with_tokens_of_their_own(scores: list[float]):
    """Of hypothesis: no fixture whose tokenizer would be the same for all examples."""
    check(train_words(CAPTIONS, min_count=1), scores)


def test_pieces_of_words(tokenizer: CaptionTokenizer):
    torch.manual_seed(0)
    for _ in range(5):
        check(tokenizer, torch.randn(len(WORDS)).tolist())


def check(tokenizer: CaptionTokenizer, scores: list[float]) -> None:
    spread = TokenSpread(tokenizer, WORDS, len(tokenizer))
    best: dict[int, float] = {}
    for word, score in zip(WORDS, scores, strict=True):
        for token in first_tokens(tokenizer, word):
            best[token] = max(score, best.get(token, score))
    want = torch.tensor([best.get(token, 0.0) for token in range(len(tokenizer))])
    bias = spread(torch.stack([torch.tensor(scores), torch.zeros(len(WORDS))]))
    torch.testing.assert_close(bias[0], want)
    assert not bias[1].any()
    assert spread.reached.tolist() == [bool(first_tokens(tokenizer, word)) for word in WORDS]
    assert not bias[:, list(tokenizer.unspoken)].any()


def test_what_the_vocabulary_lacks_is_left_out():
    tokenizer = train_words(CAPTIONS, min_count=1)
    spread = TokenSpread(tokenizer, WORDS, len(tokenizer))
    missing = [word for word, reached in zip(WORDS, spread.reached.tolist(), strict=True) if not reached]
    assert missing == ["dogs", "zebra", "Ж zebra", "..."]


def test_gradient_goes_to_the_best_of_the_words_that_share_a_token():
    tokenizer = train_words(CAPTIONS, min_count=1)
    spread = TokenSpread(tokenizer, ("dog", "red dog", "zebra", "red"), len(tokenizer))
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    weigh = torch.arange(1.0, len(tokenizer) + 1)
    (spread(scores) * weigh).sum().backward()
    dog, red = (tokenizer.spellings(word)[-1][0] for word in ("dog", "red"))
    assert scores.grad.tolist() == [[0.0, dog + 1.0, 0.0, red + 1.0]]


def test_it_holds_nothing_to_store_and_permuting_words_changes_nothing():
    tokenizer = train_words(CAPTIONS, min_count=1)
    torch.manual_seed(0)
    scores, order = torch.randn(3, len(WORDS)), torch.randperm(len(WORDS))
    spread = TokenSpread(tokenizer, WORDS, len(tokenizer))
    permuted = TokenSpread(tokenizer, [WORDS[i] for i in order], len(tokenizer))
    assert torch.equal(permuted(scores[:, order]), spread(scores))
    assert spread.state_dict() == {}


def test_an_empty_bank_knows_nothing():
    tokenizer = train_words(CAPTIONS, min_count=1)
    spread = TokenSpread(tokenizer, (), len(tokenizer))
    assert not spread(torch.zeros(2, 0)).any()
    assert spread.reached.shape == (0,)


def test_bad_input_is_named():
    tokenizer = train_words(CAPTIONS, min_count=1)
    spread = TokenSpread(tokenizer, WORDS, len(tokenizer))
    with pytest.raises(ValueError, match=r"scores are of 2 words, the bank has 11: pass one for each"):
        spread(torch.zeros(1, 2))
