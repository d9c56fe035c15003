from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regioncap.decoder import CaptionTokenizer, KeywordPieces, stored_tokenizer, train_bpe, train_words

CAPTIONS = ("A man's dog runs.", "A dog runs 3 times!", "Two men in front of a fire hydrant.", "the red T-shirt")
WORDS = ("dog", "fire hydrant", "zebra", "in front of", "Ж", "...", "man")
H = 6


@pytest.fixture(params=["words", "bpe", "gpt2"])
def tokenizer(
    request: pytest.FixtureRequest, save_gpt2_tokenizer: Callable[[Path], Path], tmp_path: Path
) -> CaptionTokenizer:
    if request.param == "gpt2":
        return stored_tokenizer(str(save_gpt2_tokenizer(tmp_path / "gpt2")))
    if request.param == "bpe":
        return train_bpe(CAPTIONS, size=60, min_count=1)
    return train_words(CAPTIONS, min_count=1)


def spelt(tokenizer: CaptionTokenizer, text: str) -> list[int]:
    """By encoding it behind another word; nothing where a piece is unknown."""
    before, both = (tokenizer.encode([t]).tokens[0, 1:-1].tolist() for t in ("a", f"a {text}"))
    pieces = both[len(before) :]
    return [] if tokenizer.unk in pieces else pieces


def test_vectors_are_the_means_of_the_pieces(tokenizer: CaptionTokenizer):
    torch.manual_seed(0)
    keywords, table = KeywordPieces(tokenizer, WORDS), torch.randn(len(tokenizer), H)
    chosen = torch.tensor([[1, 0, 2], [6, 3, 3]])
    vectors = keywords(chosen, table)
    assert vectors.shape == (2, 3, H)
    for found, word in zip(vectors.flatten(0, 1), chosen.flatten().tolist(), strict=True):
        pieces = spelt(tokenizer, WORDS[word])
        torch.testing.assert_close(found, table[pieces].mean(0) if pieces else torch.zeros(H))
    assert keywords.known.tolist() == [bool(spelt(tokenizer, word)) for word in WORDS]
    assert keywords.state_dict() == {}


def test_words_without_pieces_are_zero_and_none_is_no_error():
    tokenizer = train_words(CAPTIONS, min_count=1)
    table = torch.randn(len(tokenizer), H)
    keywords = KeywordPieces(tokenizer, WORDS)
    assert keywords.known.tolist() == [True, True, False, True, False, False, True]
    assert not keywords(torch.tensor([2, 4, 5]), table).any()
    nothing = KeywordPieces(tokenizer, ())
    assert nothing(torch.zeros(2, 0, dtype=torch.long), table).shape == (2, 0, H)
    assert nothing.known.shape == (0,)


def test_gradient_reaches_the_pieces_of_the_chosen_words_alone(tokenizer: CaptionTokenizer):
    table = torch.randn(len(tokenizer), H, requires_grad=True)
    KeywordPieces(tokenizer, WORDS)(torch.tensor([0, 6]), table).sum().backward()
    said = set(spelt(tokenizer, "dog")) | set(spelt(tokenizer, "man"))
    assert set(table.grad.abs().sum(1).nonzero()[:, 0].tolist()) == said
