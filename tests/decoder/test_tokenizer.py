from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from regioncap.decoder import CaptionTokenizer, stored_tokenizer, train_bpe, train_words

CAPTIONS = ("A man's dog runs.", "A dog runs 3 times!", "Two men; a dog.", "the dog")


@pytest.fixture(params=["words", "words with numbers", "bpe", "bpe with numbers", "gpt2"])
def tokenizer(
    request: pytest.FixtureRequest, save_gpt2_tokenizer: Callable[[Path], Path], tmp_path: Path
) -> CaptionTokenizer:
    numbers = "numbers" in request.param
    if request.param == "gpt2":
        return stored_tokenizer(str(save_gpt2_tokenizer(tmp_path / "gpt2")))
    if request.param.startswith("bpe"):
        return train_bpe(CAPTIONS, size=50, min_count=1, numbers=numbers)
    return train_words(CAPTIONS, min_count=1, numbers=numbers)


def test_encoding_brackets_pads_and_decodes_back(tokenizer: CaptionTokenizer):
    told = tokenizer.encode(CAPTIONS)
    lengths = told.mask.sum(1)
    assert told.tokens.shape == (4, lengths.max())
    assert (told.tokens[:, 0] == tokenizer.bos).all()
    assert (told.tokens[torch.arange(4), lengths - 1] == tokenizer.eos).all()
    assert (told.tokens[~told.mask] == tokenizer.pad).all()
    assert torch.equal(told.mask.int().diff(dim=1).clamp(min=0), torch.zeros(4, told.mask.shape[1] - 1).int())
    assert [tokenizer.decode(row) for row in told.tokens] == [tokenizer.normalise(caption) for caption in CAPTIONS]


def test_every_id_has_a_word_of_its_own(tokenizer: CaptionTokenizer):
    assert len(set(tokenizer.words)) == len(tokenizer.words) == len(tokenizer)
    for row in tokenizer.encode(CAPTIONS).tokens.tolist():
        assert [tokenizer.tokenizer.convert_tokens_to_ids(tokenizer.words[i]) for i in row] == row


def test_special_tokens_in_a_caption_are_plain_text(tokenizer: CaptionTokenizer):
    for literal in ("<eos>", "<|endoftext|>", "<pad>"):
        told = tokenizer.encode([f"a {literal} dog"])
        inside = told.tokens[0, 1:-1].tolist()
        assert tokenizer.eos not in inside
        assert tokenizer.decode(told.tokens[0]).endswith("dog")


def test_a_cut_caption_does_not_end(tokenizer: CaptionTokenizer):
    whole, cut = tokenizer.encode(CAPTIONS), tokenizer.encode(CAPTIONS, max_tokens=4)
    assert torch.equal(cut.tokens, whole.tokens[:, :4])
    ends = cut.tokens.gather(1, cut.mask.sum(1, keepdim=True) - 1)[:, 0] == tokenizer.eos
    assert torch.equal(ends, whole.mask.sum(1) <= 4)


def test_decoding_stops_at_the_first_eos_and_ignores_bos(tokenizer: CaptionTokenizer):
    (row,) = tokenizer.encode(["dog"]).tokens
    inside = row[1:-1]
    eos = torch.tensor([tokenizer.eos])
    assert tokenizer.decode(torch.cat([inside, eos, inside])) == "dog"
    assert tokenizer.decode(torch.cat([row, inside])) == "dog"
    assert tokenizer.decode(eos) == tokenizer.decode(eos[:0]) == ""


def test_saved_tokenizer_is_read_back_by_us_and_by_transformers(tokenizer: CaptionTokenizer, tmp_path: Path):
    tokenizer.save(tmp_path / "saved")
    again, theirs = CaptionTokenizer.load(tmp_path / "saved"), AutoTokenizer.from_pretrained(tmp_path / "saved")
    caption = "A dog: 17 runs, zebra"
    assert again.words == tokenizer.words
    assert again.normalise(caption) == tokenizer.normalise(caption)
    told = tokenizer.encode([caption]).tokens[0].tolist()
    assert again.encode([caption]).tokens[0].tolist() == told
    if tokenizer.bos != tokenizer.eos:  # GPT-2's own adds no special tokens
        assert theirs(caption)["input_ids"] == told
    assert " ".join(theirs.decode(told, skip_special_tokens=True).split()) == tokenizer.decode(torch.tensor(told))
    assert again.unspoken == tokenizer.unspoken
    for one, other in zip((again.pad, again.bos, again.eos, again.unk), (0, 1, 2, 3), strict=True):
        assert one == (other if tokenizer.bos != tokenizer.eos else tokenizer.eos)


def test_bad_input_is_named(tokenizer: CaptionTokenizer, tmp_path: Path):
    with pytest.raises(ValueError, match="no caption"):
        tokenizer.encode([])
    with pytest.raises(ValueError, match="got 1"):
        tokenizer.encode(CAPTIONS, max_tokens=1)
    with pytest.raises(ValueError, match=r"nowhere.*tokenizer\.json"):
        CaptionTokenizer.load(tmp_path / "nowhere")


def test_folder_of_another_tokenizer_is_refused(save_gpt2_tokenizer: Callable[[Path], Path], tmp_path: Path):
    train_words(CAPTIONS, min_count=1).save(tmp_path / "words")
    (tmp_path / "words" / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"words/tokenizer\.json: the tokenizer has no pad and no bos and no"):
        CaptionTokenizer.load(tmp_path / "words")
    theirs = AutoTokenizer.from_pretrained(save_gpt2_tokenizer(tmp_path / "gpt2"))
    theirs.pad_token = theirs.eos_token
    theirs.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="does not normalise captions: read it with stored_tokenizer"):
        CaptionTokenizer.load(tmp_path / "saved")
