from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Tokenizer

from regioncap.decoder import (
    CaptionTokenizer,
    Gpt2DecoderConfig,
    SearchConfig,
    Wording,
    normalise,
    search,
    stored_tokenizer,
    train_bpe,
    train_words,
)

CAPTIONS = ["A man's DOG runs!", "12 zebras, élan", "", "<|endoftext|> a ball"]


@pytest.fixture
def gpt2(save_gpt2_tokenizer: Callable[[Path], Path], tmp_path: Path) -> Path:
    return save_gpt2_tokenizer(tmp_path / "gpt2")


def test_gpt2s_pieces_are_its_own_for_normalised_text(gpt2: Path):
    ours, theirs = stored_tokenizer(str(gpt2)), AutoTokenizer.from_pretrained(gpt2)
    end = theirs.eos_token_id
    told = ours.encode(CAPTIONS)
    for row, mask, caption in zip(told.tokens, told.mask, CAPTIONS, strict=True):
        assert row[mask].tolist() == [end, *theirs(normalise(caption))["input_ids"], end]
        assert ours.decode(row) == normalise(caption)
    assert len(ours) == len(theirs)


def test_one_token_begins_ends_and_pads_and_may_be_said(gpt2: Path):
    tokenizer = stored_tokenizer(str(gpt2))
    assert tokenizer.pad == tokenizer.bos == tokenizer.eos == tokenizer.unk == len(tokenizer) - 1
    assert tokenizer.unspoken == ()  # eos has to be said
    told = tokenizer.encode(["a dog", "a running dog"])
    assert told.mask.sum(1).tolist() == [
        2 + len(tokenizer.tokenizer.encode(text)) for text in ("a dog", "a running dog")
    ]


def test_files_of_transformers_own_saving_are_read_too(gpt2: Path, tmp_path: Path):
    GPT2Tokenizer.from_pretrained(gpt2).save_pretrained(tmp_path / "saved")
    one, other = stored_tokenizer(str(gpt2)), stored_tokenizer(str(tmp_path / "saved"))
    assert one.words == other.words
    assert torch.equal(one.encode(CAPTIONS).tokens, other.encode(CAPTIONS).tokens)


@pytest.mark.parametrize("train", [train_words, train_bpe])
def test_tokenizer_of_ours_keeps_its_numbers_and_special_tokens(train: Callable, tmp_path: Path):
    tokenizer = train(["a dog and 3 cats"] * 5, min_count=1, numbers=True)
    tokenizer.save(tmp_path)
    again = stored_tokenizer(str(tmp_path))
    assert (again.words, again.unspoken) == (tokenizer.words, tokenizer.unspoken)
    assert torch.equal(again.encode(["17 dogs"]).tokens, tokenizer.encode(["17 dogs"]).tokens)


@pytest.mark.parametrize("numbers", [False, True])
def test_gpt2_says_num_in_pieces_that_come_back(gpt2: Path, numbers: bool):
    tokenizer = stored_tokenizer(str(gpt2), numbers=numbers)
    said = [tokenizer.decode(row) for row in tokenizer.encode(["12 dogs, 3.5 m", "a <num> of dogs", "<num>"]).tokens]
    assert said == (
        ["<num> dogs <num> m", "a <num> of dogs", "<num>"] if numbers else ["12 dogs 3 5 m", "a num of dogs", "num"]
    )
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(gpt2))
    prompt = Wording.of(tokenizer, prompt="a <num>").prompt
    assert tokenizer.decode(torch.tensor(prompt)) == ("a <num>" if numbers else "a num")


def test_numbers_are_kept_with_a_captioners_tokenizer(gpt2: Path, tmp_path: Path):
    stored_tokenizer(str(gpt2), numbers=True).save(tmp_path / "saved")
    assert CaptionTokenizer.load(tmp_path / "saved").normalise("7 dogs") == "<num> dogs"


@pytest.mark.parametrize(("short", "numbers"), [("a dog", False), ("a <num> of dogs", True)])
def test_loss_and_search_with_padding_that_is_eos(gpt2: Path, short: str, numbers: bool):
    """The mask decides: captions that pad with their eos cost what they cost alone, eos included."""
    tokenizer = stored_tokenizer(str(gpt2), numbers=numbers)
    torch.manual_seed(0)
    decoder = Gpt2DecoderConfig(layers=1, heads=2, width=16, positions=64, dropout=0.0).build(
        len(tokenizer), bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad
    )
    prefix, valid = torch.randn(1, 2, 16), torch.ones(1, 2, dtype=torch.bool)
    told = tokenizer.encode([short, "a running dog and a red ball"])
    together = decoder.token_losses(prefix, valid, told.tokens[None], told.mask[None])[0]
    for i, caption in enumerate((short, "a running dog and a red ball")):
        alone = tokenizer.encode([caption])
        losses = decoder.token_losses(prefix, valid, alone.tokens[None], alone.mask[None])[0, 0]
        assert (losses > 0).all()  # the last one is of eos
        torch.testing.assert_close(together[i, : len(losses)], losses)
        assert (together[i, len(losses) :] == 0).all()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        decoder.loss(prefix, valid, told.tokens[None, :1], told.mask[None, :1]).backward()
        optimizer.step()
    found = search(decoder.eval().incremental(), prefix, valid, SearchConfig(max_new_tokens=20), Wording.of(tokenizer))
    assert tokenizer.decode(found.tokens[0, 0]) == short
    assert found.lengths[0].tolist() == [int(told.mask[0].sum()) - 1]  # it stops by itself


def test_what_is_missing_is_named(gpt2: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"found no tokenizer \(tokenizer\.json, or vocab.* at nobody"):
        stored_tokenizer("nobody/no-such-gpt2")
    (gpt2 / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"gpt2 has no tokenizer \(tokenizer\.json, or vocab\.json and merges\.txt\)"):
        stored_tokenizer(str(gpt2))
