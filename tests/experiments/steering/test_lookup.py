from collections.abc import Callable

import pytest
import torch

from regioncap.decoder import train_bpe, train_words
from regioncap.experiments.checkpoint import Checkpoint
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.steering.lookup import (
    SteeringError,
    check_steerable,
    check_word,
    find_words,
    spelling,
    with_words,
)
from regioncap.experiments.steering.options import SteeringOptions
from regioncap.guidance import BankError, KeywordBank

Make = Callable[..., Checkpoint]


def test_words_are_found_in_every_bank_that_has_them(checkpoint: Make, built: Encoders) -> None:
    made = checkpoint()
    scene, detail = made.scene_bank.words[0], made.detail_bank.words[:3]
    options = SteeringOptions(add=(detail[0].upper(),), drop=(detail[1],), scene=(scene,), region=(f"2={detail[2]}",))
    wanted, same = find_words(options, made, built.keywords)
    assert same is made
    assert wanted.embedded == ()
    assert (wanted.add[0].detail, wanted.add[0].scene) == (0, made.scene_bank.find(detail[0]))
    assert wanted.drop[0].detail == 1
    assert wanted.scene[0].scene == 0
    assert wanted.regions[2][0].detail == 2


def test_a_phrase_of_sayable_words_is_embedded_and_nothing_else_changes(
    checkpoint: Make, built: Encoders, prepared: Prepared
) -> None:
    made = checkpoint()
    colour, thing = made.detail_bank.words[:2]
    phrase = f"{colour} {thing}"
    wanted, more = find_words(SteeringOptions(add=(phrase,)), made, built.keywords)
    assert wanted.embedded == (phrase,)
    assert more.detail_bank.words == (*made.detail_bank.words, phrase)
    assert more.scene_bank is made.scene_bank
    assert wanted.add[0].detail == len(made.detail_bank)
    vector = prepared.clip_head.embed_text(built.keywords.embed([phrase]))[0]
    assert torch.allclose(more.detail_bank.embeddings[-1], vector.detach(), atol=1e-5)
    images = prepared.dev.images(torch.arange(4))
    texts = [
        CaptionGenerator(each.captioner, each.tokenizer, each.experiment.search)(images, "abcd").texts
        for each in (made, more)
    ]
    assert texts[0] == texts[1]


def test_places_join_the_scene_bank_and_regions_the_detail_bank(checkpoint: Make, built: Encoders) -> None:
    made = checkpoint()
    thing = made.detail_bank.words[0]
    options = SteeringOptions(scene=(f"{thing} town",), region=(f"1=town {thing}",))
    wanted, more = find_words(options, made, built.keywords)
    assert wanted.embedded == (f"{thing} town", f"town {thing}")
    assert more.scene_bank.words[-1] == f"{thing} town"
    assert more.detail_bank.words[-1] == f"town {thing}"


def test_a_captioner_of_one_scale_takes_what_it_can(checkpoint: Make, built: Encoders) -> None:
    scene, detail = checkpoint("scene words"), checkpoint("detail words")
    thing = detail.detail_bank.words[0]
    with pytest.raises(SteeringError, match="--region needs detail words"):
        find_words(SteeringOptions(region=(f"1={thing}",)), scene, built.keywords)
    with pytest.raises(SteeringError, match="--scene needs scene words"):
        find_words(SteeringOptions(scene=("town",)), detail, built.keywords)
    wanted, _ = find_words(SteeringOptions(add=(thing,)), detail, built.keywords)
    assert wanted.add[0].scene is None


@pytest.mark.parametrize(("arm", "says"), [("+graph", "has no guidance"), ("shuffled guidance", "a control")])
def test_captioners_without_words_of_their_own_are_refused(checkpoint: Make, arm: str, says: str) -> None:
    with pytest.raises(SteeringError, match=says):
        check_steerable(checkpoint(arm))


@pytest.fixture
def bank() -> KeywordBank:
    words = ("surfboard", "dog", "wooden", "hot")
    return KeywordBank(words=words, counts=(4, 3, 2, 1), embeddings=torch.eye(4))


CAPTIONS = ["a hot dog on a wooden surfboard near a reef", "a wooded reef"] * 9


def test_a_decoder_of_words_says_what_it_knows_and_names_the_nearest_of_what_it_does_not(bank: KeywordBank) -> None:
    tokenizer = train_words(CAPTIONS, min_count=1)
    check_word("hot dog", tokenizer, {"detail": bank})
    check_word("wooded", tokenizer, {"detail": bank})  # like "wooden", but a word that captions have
    with pytest.raises(BankError, match=r"no word 'surfbord' in the detail bank; nearest: surfboard"):
        check_word("surfbord", tokenizer, {"detail": bank})
    with pytest.raises(BankError, match=r"'qqq'.* none is spelt like it.* nor can the decoder say it"):
        check_word("hot qqq", tokenizer, {"detail": bank})
    assert spelling("surfbord", tokenizer) == ()


def test_a_decoder_of_pieces_can_spell_slips_but_they_are_no_words(bank: KeywordBank) -> None:
    tokenizer = train_bpe(CAPTIONS, size=90, min_count=1)
    assert len(spelling("surfbord", tokenizer)) > 1
    with pytest.raises(BankError, match=r"no word 'surfbord' in the detail bank; nearest: surfboard"):
        check_word("surfbord", tokenizer, {"detail": bank})
    check_word("hot reef", tokenizer, {"detail": bank})
    check_word("frond", tokenizer, {"detail": bank})  # in pieces, and like no word of the bank


def test_no_words_change_nothing(checkpoint: Make, built: Encoders) -> None:
    made = checkpoint()
    assert with_words(made, [], [], built.keywords) is made
