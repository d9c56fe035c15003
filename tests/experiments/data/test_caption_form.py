"""One form of the captions for all that learn from them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.decoder import normalise
from regioncap.experiments.banks import KeywordBanksConfig, marked_captions
from regioncap.experiments.data.boxed_phrases import read_boxed_phrases
from regioncap.experiments.data.caption_form import CaptionFormConfig
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage
from regioncap.experiments.data.entity_folder import entity_folder
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.flickr30k import Flickr30kConfig
from regioncap.experiments.data.sources import DATA_KINDS, read_data
from regioncap.experiments.vocabulary import VocabularyConfig
from regioncap.guidance import detail_words

CAPTIONS = ("A Dog's 2 balls, at 3.5 m.", "Two  DOGS!")
PLAIN = ("a dog s <num> balls at <num> m", "two dogs")


def data(*captions: str) -> CaptionData:
    images = {
        split: (CaptionedImage(name=f"{split}.jpg", path=Path(f"{split}.jpg"), captions=captions),)
        for split in ("train", "dev", "test")
    }
    return CaptionData(name="mine", root=Path("mine"), splits=images)


def test_as_written_changes_nothing():
    same = data(*CAPTIONS)
    assert CaptionFormConfig().apply(same) is same


def test_training_captions_alone_are_normalised_unless_references_are_asked_for():
    found = CaptionFormConfig(captions="normalised").apply(data(*CAPTIONS))
    assert [found.split(split)[0].captions for split in found.splits] == [PLAIN, CAPTIONS, CAPTIONS]
    both = CaptionFormConfig(captions="normalised", references="normalised").apply(data(*CAPTIONS))
    assert [both.split(split)[0].captions for split in both.splits] == [PLAIN] * 3
    scored = CaptionFormConfig(references="normalised").apply(data(*CAPTIONS))
    assert [scored.split(split)[0].captions for split in scored.splits] == [CAPTIONS, PLAIN, PLAIN]


def test_a_caption_without_a_word_is_counted_and_no_image_is_left_bare():
    found = CaptionFormConfig(captions="normalised").apply(data("A dog", "..."))
    assert found.split("train")[0].captions == ("a dog",)
    assert found.skipped == {"caption without a word": 1}
    assert CaptionFormConfig(captions="normalised").apply(data("...")).split("train")[0].captions == ("...",)


@given(st.text())
def test_it_is_the_decoders_own_normalisation(text: str):
    config = CaptionFormConfig(captions="normalised", references="normalised")
    assert config.learned(text) == config.scored(text) == normalise(text, numbers=True)
    assert config.learned(config.learned(text)) == config.learned(text)
    assert CaptionFormConfig().learned(text) == CaptionFormConfig().scored(text) == text


def test_every_kind_of_data_has_a_form():
    form = CaptionFormConfig(captions="normalised")
    assert all(kind(text=form).text.numbers for kind in DATA_KINDS.values())


def test_read_data_gives_the_form(photographs: Path, tmp_path: Path):
    source = Flickr8kConfig(root=photographs, text=CaptionFormConfig(captions="normalised"))
    found = read_data(source, tmp_path)
    assert found.split("train")[0].captions[0] == "a red dog runs on the beach <num>"
    assert found.split("dev")[0].captions[0] == "A blue dog runs on the beach 0 ."


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_a_tokenizer_trained_on_that_form_says_num_again(kind: str):
    form = CaptionFormConfig(captions="normalised")
    captions = [form.learned(text) for text in CAPTIONS]
    tokenizer = VocabularyConfig(kind=kind, min_count=1, size=60).tokenizer(captions, None, numbers=form.numbers)
    told = tokenizer.encode(captions)
    assert [tokenizer.decode(row) for row in told.tokens] == list(PLAIN)
    assert not set(tokenizer.unspoken) & set(told.tokens[0][told.mask[0]].tolist()[1:])
    assert "<num>" in tokenizer.words


def test_a_decoder_of_another_form_is_refused(tmp_path: Path):
    VocabularyConfig(min_count=1).tokenizer(CAPTIONS, None, numbers=True).save(tmp_path / "num")
    VocabularyConfig(min_count=1).tokenizer(CAPTIONS, None).save(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"numbers are <num>, .*--data\.text\.captions normalised"):
        VocabularyConfig().tokenizer(CAPTIONS, str(tmp_path / "num"))
    with pytest.raises(ValueError, match=r"numbers are the words that they are.*--data\.text\.captions as-written"):
        VocabularyConfig().tokenizer(CAPTIONS, str(tmp_path / "plain"), numbers=True)
    assert VocabularyConfig().tokenizer(CAPTIONS, str(tmp_path / "num"), numbers=True).normalise("7") == "<num>"


def test_num_is_no_word_of_a_bank():
    captions = ["a <num> of dogs", "the <num> dogs", "<num>"] * 5
    assert set(detail_words(captions, min_count=1)) == {"dogs"}


def test_phrases_are_in_the_form_of_the_captions(flickr30k: Path, tmp_path: Path):
    for file in (flickr30k / "Sentences").iterdir():
        file.write_text("[/EN#1/animals A T-shirt dog] by [/EN#2/other 3 balls] in [/EN#3/scene Snow] .\n")
    source = Flickr30kConfig(root=flickr30k, sizes="any")
    found = read_data(source, tmp_path / "cache")
    folder = entity_folder(found, tmp_path / "cache")
    form = CaptionFormConfig(captions="normalised").learned
    (image, *_) = found.split("train")
    (caption,) = marked_captions(KeywordBanksConfig(source="phrases"), folder, [image], form)
    assert (caption.text, caption.scene, caption.detail) == (
        "a t shirt dog by <num> balls in snow",
        ("snow",),
        ("a t shirt dog", "<num> balls"),
    )
    boxes = read_boxed_phrases(folder, [image.name], form)[image.name]
    assert [box.phrases for box in boxes] == [("a t shirt dog",), ("<num> balls",)]
    assert replace(source, text=CaptionFormConfig(captions="normalised")).text.numbers
