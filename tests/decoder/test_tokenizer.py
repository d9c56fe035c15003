import re
import string
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from regioncap.decoder import CaptionTokenizer, normalise

CAPTIONS = ("A man's dog runs.", "A dog runs 3 times!", "Two men; a dog.", "the dog")


def test_ascii_captions_are_normalised_as_section_4_2_says():
    for caption in (*CAPTIONS, "T-shirt, 12 (or 3.5) dogs!!  & more", "\ta  b\n", ""):
        spaced = caption.lower().translate({ord(c): " " for c in string.punctuation})
        assert normalise(caption) == " ".join(spaced.split())


def test_numbers_become_one_word():
    assert normalise("12 dogs, 3.5 cats: 1,000. On 2nd street", numbers=True) == (
        "<num> dogs <num> cats <num> on 2nd street"
    )
    assert normalise("12 dogs") == "12 dogs"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.booleans())
def test_normalising_twice_changes_nothing(caption: str, numbers: bool):
    once = normalise(caption, numbers=numbers)
    assert normalise(once, numbers=numbers) == once
    assert not re.search(r"\s\s|^\s|\s$", once)


def test_words_stand_by_falling_count_then_alphabet():
    tokenizer = CaptionTokenizer.train(CAPTIONS, min_count=1)
    assert tokenizer.words[:7] == ("<pad>", "<bos>", "<eos>", "<unk>", "dog", "a", "runs")
    assert tokenizer.words[7:] == ("3", "man", "men", "s", "the", "times", "two")
    assert len(tokenizer) == 14


def test_min_count_and_numbers_are_read():
    assert CaptionTokenizer.train(CAPTIONS, min_count=2).words[4:] == ("dog", "a", "runs")
    assert "<num>" in CaptionTokenizer.train(CAPTIONS, min_count=1, numbers=True).words


def test_encoding_brackets_pads_and_decodes_back():
    tokenizer = CaptionTokenizer.train(CAPTIONS, min_count=1)
    told = tokenizer.encode(CAPTIONS)
    assert told.tokens.shape == (4, 7)
    assert told.mask.sum(1).tolist() == [7, 7, 6, 4]
    assert (told.tokens[:, 0] == tokenizer.bos).all()
    assert (told.tokens[~told.mask] == tokenizer.pad).all()
    assert [tokenizer.decode(row) for row in told.tokens] == [normalise(caption) for caption in CAPTIONS]


def test_unknown_and_special_words_in_a_caption_are_unknown_words():
    tokenizer = CaptionTokenizer.train(CAPTIONS, min_count=1)
    (row,) = tokenizer.encode(["<eos> zebra <pad> dog"]).tokens.tolist()
    dog = tokenizer.words.index("dog")
    assert row == [tokenizer.bos, tokenizer.unk, tokenizer.unk, tokenizer.unk, dog, tokenizer.eos]


def test_a_cut_caption_does_not_end():
    tokenizer = CaptionTokenizer.train(CAPTIONS, min_count=1)
    whole, cut = tokenizer.encode(CAPTIONS), tokenizer.encode(CAPTIONS, max_tokens=4)
    assert torch.equal(cut.tokens, whole.tokens[:, :4])
    assert (cut.tokens == tokenizer.eos).sum() == 1


def test_decoding_stops_at_the_first_eos():
    tokenizer = CaptionTokenizer.train(CAPTIONS, min_count=1)
    dog = tokenizer.words.index("dog")
    assert tokenizer.decode(torch.tensor([dog, tokenizer.eos, dog])) == "dog"


def test_saved_tokenizer_is_read_back_by_us_and_by_transformers(tmp_path: Path):
    tokenizer = CaptionTokenizer.train(CAPTIONS, min_count=1, numbers=True)
    tokenizer.save(tmp_path)
    again, theirs = CaptionTokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    caption = "A dog: 17 runs, zebra"
    assert again.words == tokenizer.words
    assert again.normalise(caption) == tokenizer.normalise(caption) == "a dog <num> runs zebra"
    assert again.encode([caption]).tokens[0].tolist() == theirs(caption)["input_ids"]
    assert again.unspoken == tokenizer.unspoken == (0, 1, 3)


def test_bad_input_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        CaptionTokenizer.train(CAPTIONS, min_count=0)
    with pytest.raises(ValueError, match="no word appears 1 times among 0 words"):
        CaptionTokenizer.train([], min_count=1)
    with pytest.raises(ValueError, match="no caption"):
        CaptionTokenizer.train(CAPTIONS, min_count=1).encode([])
    with pytest.raises(ValueError, match="got 1"):
        CaptionTokenizer.train(CAPTIONS, min_count=1).encode(CAPTIONS, max_tokens=1)
    with pytest.raises(ValueError, match=r"nowhere.*tokenizer\.json"):
        CaptionTokenizer.load(tmp_path / "nowhere")
    CaptionTokenizer.train(CAPTIONS, min_count=1).save(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text().replace("<bos>", "<start>")
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="has no <bos>"):
        CaptionTokenizer.load(tmp_path)
