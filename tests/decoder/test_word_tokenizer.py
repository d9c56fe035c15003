import pytest

from regioncap.decoder import train_words

CAPTIONS = ("A man's dog runs.", "A dog runs 3 times!", "Two men; a dog.", "the dog")


def test_words_stand_by_falling_count_then_alphabet():
    tokenizer = train_words(CAPTIONS, min_count=1)
    assert tokenizer.words[:7] == ("<pad>", "<bos>", "<eos>", "<unk>", "dog", "a", "runs")
    assert tokenizer.words[7:] == ("3", "man", "men", "s", "the", "times", "two")
    assert len(tokenizer) == 14


def test_min_count_and_numbers_are_read():
    assert train_words(CAPTIONS, min_count=2).words[4:] == ("dog", "a", "runs")
    assert "<num>" in train_words(CAPTIONS, min_count=1, numbers=True).words


def test_unknown_and_special_words_in_a_caption_are_unknown_words():
    tokenizer = train_words(CAPTIONS, min_count=1)
    (row,) = tokenizer.encode(["<eos> zebra <pad> dog"]).tokens.tolist()
    dog = tokenizer.words.index("dog")
    assert row == [tokenizer.bos, tokenizer.unk, tokenizer.unk, tokenizer.unk, dog, tokenizer.eos]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        train_words(CAPTIONS, min_count=0)
    with pytest.raises(ValueError, match="no word appears 1 times among 0 words"):
        train_words([], min_count=1)
