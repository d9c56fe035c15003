from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import pytest
import torch

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.experiments.pictures import chosen_record
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.steering import edits as module
from regioncap.experiments.steering.compare import steering_lines, steering_record
from regioncap.experiments.steering.edits import Steerer, steering_of
from regioncap.experiments.steering.lookup import Entry, SteeringError, Wanted, with_words
from regioncap.guidance import SemanticGuidance, Steering

Make = Callable[..., Checkpoint]
Caption = Callable[[Captioner], tuple[CaptionGenerator, Generated]]
LEARNED_AND_SIMILAR = pytest.mark.parametrize("arm", ["+graph+guidance", "similar words"])


def entry(made: Checkpoint, word: str) -> Entry:
    return Entry(word=word, scene=made.scene_bank.find(word), detail=made.detail_bank.find(word))


def wanted(
    made: Checkpoint,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    scene: Sequence[str] = (),
    regions: Mapping[int, Sequence[str]] | None = None,
) -> Wanted:
    def entries(words: Sequence[str]) -> tuple[Entry, ...]:
        return tuple(entry(made, word) for word in words)

    named = {number: entries(words) for number, words in (regions or {}).items()}
    return Wanted(add=entries(add), drop=entries(drop), scene=entries(scene), regions=named, embedded=())


def test_no_wish_is_no_edit_and_no_edit_is_the_caption_without(
    checkpoint: Make, captioned: Caption, prepared: Prepared
) -> None:
    made = checkpoint()
    generator, before = captioned(made.captioner)
    edits = Steerer(made.captioner, wanted(made), 4.0)(before, "abcd")
    assert not edits.steering.scene.any()
    assert not edits.steering.detail.any()
    assert edits.edits == ((),) * 4
    after = generator(prepared.dev.images(torch.arange(4)), "abcd", edits.steering)
    assert after.texts == before.texts
    for field in fields(before.guidance):
        one, other = getattr(before.guidance, field.name), getattr(after.guidance, field.name)
        assert not isinstance(one, torch.Tensor) or torch.equal(one, other), field.name
    assert before.prefix.bias is not None
    assert after.prefix.bias is not None
    assert torch.equal(before.prefix.embeddings, after.prefix.embeddings)
    assert torch.equal(before.prefix.bias, after.prefix.bias)


@LEARNED_AND_SIMILAR
def test_added_and_dropped_words_reach_what_guidance_chooses(
    checkpoint: Make, captioned: Caption, prepared: Prepared, arm: str
) -> None:
    made = checkpoint(arm)
    generator, before = captioned(made.captioner)
    old = chosen_record(made.captioner, before, 0)
    gone = next(iter(old["regions"]["1"]))
    new = next(
        word
        for word in made.detail_bank.words
        if word not in old["keywords"] and not any(word in words for words in old["regions"].values())
    )
    edits = Steerer(made.captioner, wanted(made, add=[new], drop=[gone]), 4.0)(before, "abcd")
    after = generator(prepared.dev.images(torch.arange(4)), "abcd", edits.steering)
    now = chosen_record(made.captioner, after, 0)
    assert new in now["keywords"]
    assert any(new in words for words in now["regions"].values())
    assert gone not in now["keywords"]
    assert not any(gone in words for words in now["regions"].values())
    assert {(edit.word, edit.change, edit.region) for edit in edits.edits[0]} == {
        (gone, "dropped", None),
        (new, "added", None),
    }


def test_a_dropped_word_that_was_not_chosen_is_noted_and_set_against(checkpoint: Make, captioned: Caption) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    old = chosen_record(made.captioner, before, 0)
    told = {*old["scene"], *old["keywords"], *(word for words in old["regions"].values() for word in words)}
    strange = next(word for word in made.detail_bank.words if word not in told)
    edits = Steerer(made.captioner, wanted(made, drop=[strange]), 4.0)(before, "abcd")
    assert any(f"had not chosen '{strange}'" in note for note in edits.notes[0])
    assert edits.steering.detail[0, made.detail_bank.words.index(strange)] == -1


def test_a_captioner_without_word_bias_says_what_dropping_does_not(checkpoint: Make, captioned: Caption) -> None:
    made = checkpoint("words as vectors")
    _, before = captioned(made.captioner)
    drop = made.detail_bank.words[0]
    notes = Steerer(made.captioner, wanted(made, drop=[drop]), 4.0)(before, "abcd").notes[0]
    assert any("no word bias" in note and "--search.bad-words" in note for note in notes)
    kept = Steerer(made.captioner, wanted(made, add=[drop]), 4.0)(before, "abcd").notes[0]
    assert not any("word bias" in note for note in kept)


def test_a_new_place_drops_the_chosen_places_but_those_to_add(
    checkpoint: Make, captioned: Caption, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    old = chosen_record(made.captioner, before, 0)
    chosen = {*old["scene"], *(word for word in old["keywords"] if word in made.scene_bank.words)}
    place, kept = sorted(chosen)[:2] if len(chosen) > 1 else (*chosen, "")
    new = next(word for word in made.scene_bank.words if word not in chosen)
    monkeypatch.setattr(module, "PLACE_WORDS", frozenset({place, kept, new}))
    add = [kept] if kept else []
    edits = Steerer(made.captioner, wanted(made, add=add, scene=[new]), 4.0)(before, "abcd").steering
    rows = made.scene_bank.words
    assert edits.scene[0, rows.index(new)] == 1
    assert edits.scene[0, rows.index(place)] == -1
    for word in add:
        assert edits.scene[0, rows.index(word)] == 1
    others = [row for row, word in enumerate(rows) if word not in {new, place, kept}]
    assert not edits.scene[0, others].any()  # what is no place stays


@LEARNED_AND_SIMILAR
def test_a_named_region_stays_on_its_region_and_reaches_the_picture(
    checkpoint: Make, captioned: Caption, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    monkeypatch.setattr(module, "ATTRIBUTES", frozenset())
    made = checkpoint(arm)
    generator, before = captioned(made.captioner)
    assert before.regions.valid[:, 1].all(), "every image needs two regions for this"
    old = chosen_record(made.captioner, before, 0)
    new = next(
        word
        for word in made.detail_bank.words
        if word not in old["keywords"] and word not in made.scene_bank.words
        and not any(word in words for words in old["regions"].values())
    )  # fmt: skip
    edits = Steerer(made.captioner, wanted(made, regions={2: [new]}), 4.0)(before, "abcd")
    after = generator(prepared.dev.images(torch.arange(4)), "abcd", edits.steering)
    now = chosen_record(made.captioner, after, 0)
    assert list(now["regions"]["2"]) == [new]
    assert {number: words for number, words in now["regions"].items() if number != "2"} == {
        number: words for number, words in old["regions"].items() if number != "2"
    }
    assert new in now["keywords"]
    assert now["scene"] == old["scene"]
    elsewhere = {word for number, words in old["regions"].items() if number != "2" for word in words}
    for word in old["regions"]["2"]:
        dropped = edits.steering.detail[0, made.detail_bank.words.index(word)] == -1
        assert dropped == (word not in elsewhere)


def test_an_attribute_replaces_attributes_alone(
    checkpoint: Make, captioned: Caption, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    own = list(chosen_record(made.captioner, before, 0)["regions"]["1"])
    assert len(own) == 2
    new = next(word for word in made.detail_bank.words if word not in own)
    monkeypatch.setattr(module, "ATTRIBUTES", frozenset({own[0], new}))
    regions = Steerer(made.captioner, wanted(made, regions={1: [new]}), 4.0)(before, "abcd").steering.regions
    assert regions is not None
    rows = made.detail_bank.words
    told = regions[0, 0]
    assert (told[rows.index(new)], told[rows.index(own[0])], told[rows.index(own[1])]) == (1, -1, 0)
    assert (told == -1).sum() == len(rows) - 2
    assert not regions[0, 1:].any()


@pytest.mark.parametrize("number", [0, 999])
def test_a_region_that_there_is_not_is_named_with_its_picture(
    checkpoint: Make, captioned: Caption, number: int
) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    steerer = Steerer(made.captioner, wanted(made, regions={number: [made.detail_bank.words[0]]}), 4.0)
    with pytest.raises(SteeringError, match=rf"^a has no region {number}: it has \d+, numbered from 1"):
        steerer(before, "abcd")


def test_a_padded_region_is_none(checkpoint: Make, captioned: Caption) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    count = int(before.regions.valid[0].sum())
    before.regions.valid[0, count - 1] = False
    steerer = Steerer(made.captioner, wanted(made, regions={count: [made.detail_bank.words[0]]}), 4.0)
    with pytest.raises(SteeringError, match=f"no region {count}: it has {count - 1},"):
        steerer(before, "abcd")


def test_the_record_compares_both_and_its_lines_are_to_be_read(
    checkpoint: Make, captioned: Caption, prepared: Prepared
) -> None:
    made = checkpoint()
    generator, before = captioned(made.captioner)
    word = made.detail_bank.words[-1]
    edits = Steerer(made.captioner, wanted(made, add=[word], regions={1: [made.detail_bank.words[0]]}), 3.0)(
        before, "abcd"
    )
    after = generator(prepared.dev.images(torch.arange(4)), "abcd", edits.steering)
    record = steering_record(made.captioner, before, after, edits, 2)
    assert record["caption_before"] == before.texts[2]
    assert record["caption_after"] == after.texts[2]
    assert record["strength"] == 3.0
    assert record["chosen_before"] == chosen_record(made.captioner, before, 2)
    assert record["chosen_after"] == chosen_record(made.captioner, after, 2)
    assert {"word": word, "change": "added", "region": None} in record["edits"]
    text = "\n".join(steering_lines(record))
    assert f"  without   {before.texts[2]}" in text
    assert f"  with      {after.texts[2]}" in text
    assert f"+{word}" in text
    assert "(region 1)" in text


def test_edits_of_pictures_stand_in_their_own_rows(checkpoint: Make, captioned: Caption) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    assert isinstance(made.captioner.guidance, SemanticGuidance)
    sheets = [
        Steerer(made.captioner, wanted(made, add=[made.detail_bank.words[at]]), 1.0).sheet(before, at, "x")
        for at in range(3)
    ]
    steering = steering_of(sheets, 6.0, 2)
    assert isinstance(steering, Steering)
    assert steering.strength == 6.0
    assert torch.equal(steering.detail[:, :3], torch.eye(3, dtype=torch.int8))


def test_edits_of_regions_fit_a_batch_of_any_width(checkpoint: Make, captioned: Caption) -> None:
    made = checkpoint()
    _, before = captioned(made.captioner)
    sheet = Steerer(made.captioner, wanted(made, regions={1: [made.detail_bank.words[0]]}), 1.0).sheet(before, 0, "x")
    slots = len(sheet.regions)
    for width in (1, slots, slots + 3):
        regions = steering_of([sheet], 4.0, width).regions
        assert regions is not None
        assert regions.shape == (1, width, len(made.detail_bank))
        assert torch.equal(regions[0, 0], sheet.regions[0])
        assert not regions[0, 1:].any()


def test_a_dropped_word_takes_along_the_words_that_say_it(
    checkpoint: Make, captioned: Caption, built: Encoders
) -> None:
    made = checkpoint()
    word, other = made.detail_bank.words[:2]
    made = with_words(made, [], [f"t-{word}", f"{other} {word}", f"{word}s"], built.keywords)
    _, before = captioned(made.captioner)
    detail = Steerer(made.captioner, wanted(made, drop=[word]), 4.0)(before, "abcd").steering.detail[0]
    assert [made.detail_bank.words[row] for row in (detail < 0).nonzero()[:, 0].tolist()] == [
        word, f"t-{word}", f"{other} {word}",
    ]  # fmt: skip
