from collections.abc import Callable
from dataclasses import replace

import pytest

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.steering.trials import Trials, chosen_names
from regioncap.guidance.lexicon import ATTRIBUTES, COLOURS

Make = Callable[..., Checkpoint]
Caption = Callable[[Captioner], tuple[CaptionGenerator, Generated]]


@pytest.fixture
def before(checkpoint: Make, captioned: Caption) -> tuple[Captioner, Generated]:
    captioner = checkpoint().captioner
    return captioner, captioned(captioner)[1]


def words(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize("kind", [kind for kind in Trials.KINDS if kind not in ("drop", "add true word")])
def test_added_words_are_neither_said_nor_true(
    before: tuple[Captioner, Generated], prepared: Prepared, kind: str
) -> None:
    captioner, generated = before
    trials = Trials(captioner, prepared.tokenizer, seed=0)
    drawn = [trials.of(kind, generated, at, prepared.dev_images[at]) for at in range(4)]
    found = [(at, trial) for at, trial in enumerate(drawn) if trial is not None]
    assert found
    for at, trial in found:
        picture = prepared.dev_images[at]
        assert trial.image == picture.name
        assert not trial.true
        assert trial.word not in words(generated.texts[at]).union(*map(words, picture.captions))
        if kind == "add colour":
            assert trial.word in COLOURS
        if kind in ("add object", "rename region"):
            assert trial.word not in ATTRIBUTES
        assert (trial.sheet.scene > 0).any() or (trial.sheet.detail > 0).any()
        assert bool((trial.sheet.regions > 0).any()) == (kind == "rename region")


def test_true_words_are_of_the_references_and_not_said(before: tuple[Captioner, Generated], prepared: Prepared) -> None:
    captioner, generated = before
    trials = Trials(captioner, prepared.tokenizer, seed=0)
    for at in range(4):
        trial = trials.of("add true word", generated, at, prepared.dev_images[at])
        assert trial is not None
        assert trial.true
        assert any(trials.says(caption, trial.word) for caption in prepared.dev_images[at].captions)
        assert not trials.says(generated.texts[at], trial.word)


def test_dropped_words_were_said_and_chosen(before: tuple[Captioner, Generated], prepared: Prepared) -> None:
    captioner, generated = before
    trials = Trials(captioner, prepared.tokenizer, seed=0)
    chosen = sorted(chosen_names(captioner, generated, 0) & set(prepared.detail_bank.words))
    said = replace(generated, texts=(f"a {chosen[0]}", *generated.texts[1:]))
    picture = CaptionedImage(name="x", path=prepared.dev_images[0].path, captions=("nothing",))
    trial = trials.of("drop", said, 0, picture)
    assert trial is not None
    assert trial.word == chosen[0]
    assert not trial.true
    assert trial.sheet.detail[prepared.detail_bank.words.index(chosen[0])] == -1
    unsaid = replace(generated, texts=("nothing", *generated.texts[1:]))
    assert trials.of("drop", unsaid, 0, picture) is None


def test_the_seed_draws_and_frequent_words_come_more_often(
    before: tuple[Captioner, Generated], prepared: Prepared
) -> None:
    captioner, generated = before
    picture = CaptionedImage(name="x", path=prepared.dev_images[0].path, captions=("nothing",))
    drawn = []
    for seed in range(60):
        trial = Trials(captioner, prepared.tokenizer, seed).of("add object", generated, 0, picture)
        again = Trials(captioner, prepared.tokenizer, seed).of("add object", generated, 0, picture)
        assert trial is not None
        assert again is not None
        assert trial.word == again.word
        drawn.append(trial.word)
    assert len(set(drawn)) > 2
    counts = dict(zip(prepared.detail_bank.words, prepared.detail_bank.counts, strict=True))
    pool = [counts[word] for word in set(drawn)]
    assert sum(counts[word] for word in drawn) / len(drawn) > sum(pool) / len(pool)


def test_no_region_no_name(before: tuple[Captioner, Generated], prepared: Prepared) -> None:
    captioner, generated = before
    generated.regions.valid[:] = False
    trials = Trials(captioner, prepared.tokenizer, seed=0)
    assert trials.of("rename region", generated, 0, prepared.dev_images[0]) is None
    assert trials.of("add object", generated, 0, prepared.dev_images[0]) is not None
