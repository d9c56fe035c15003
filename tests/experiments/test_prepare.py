import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.config import Experiment, VocabularyConfig
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.prepare import Prepared, dev_split, open_prepared, prepare
from regioncap.guidance import NoGuidanceConfig, detail_words

PLANTED = "a zyzzyva under a quokka at dawn"


def with_split(data: CaptionData, split: str, images: Sequence[CaptionedImage]) -> CaptionData:
    return replace(data, splits={**data.splits, split: tuple(images)})


def planted(data: CaptionData, split: str) -> CaptionData:
    """The same data with words in one split's captions that stand nowhere else."""
    return with_split(data, split, [replace(image, captions=(PLANTED,) * 5) for image in data.split(split)])


def assert_learned_the_same(one: Prepared, other: Prepared) -> None:
    assert one.tokenizer.words == other.tokenizer.words
    for name in ("scene_bank", "detail_bank"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first.words, first.counts) == (second.words, second.counts)
        assert torch.equal(first.embeddings, second.embeddings)
    for name in ("tokens", "mask", "text"):
        assert torch.equal(getattr(one.captions, name), getattr(other.captions, name))
    assert torch.equal(one.offsets, other.offsets)
    for own, others in zip(taught(one), taught(other), strict=True):
        assert all(torch.equal(tensor, others[name]) for name, tensor in own.items())
    state = other.clip_head.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.clip_head.state_dict().items())


def taught(prepared: Prepared) -> list[dict[str, torch.Tensor]]:
    """The state of every keyword head, and the words' shares."""
    assert prepared.supervision is not None
    heads = [heads.state_dict() for heads in (*prepared.supervision.folds, prepared.supervision.heads)]
    shares = prepared.supervision.shares
    return [*heads, {"scene": shares.scene, "detail": shares.detail, "regions": shares.regions}]


@pytest.mark.parametrize("split", ["val", "test"])
def test_nothing_is_learned_from_dev_or_test(
    tiny: Experiment, data: CaptionData, built: Encoders, prepared: Prepared, cache: Path, split: str
) -> None:
    other = prepare(tiny, planted(data, split), built, cache)
    assert_learned_the_same(other, prepared)
    learned = {*other.tokenizer.words, *other.scene_bank.words, *other.detail_bank.words}
    assert not learned & {"zyzzyva", "quokka", "dawn"}
    assert other.dev_images[0].captions == ((PLANTED,) * 5 if split == "val" else prepared.dev_images[0].captions)


def test_words_of_training_captions_are_learned(
    tiny: Experiment, data: CaptionData, built: Encoders, cache: Path
) -> None:
    """The counterpart: planted where they may be learned, the words are."""
    found = prepare(tiny, planted(data, "train"), built, cache)
    assert {"zyzzyva", "quokka", "dawn"} <= set(found.tokenizer.words)
    assert "zyzzyva" in found.detail_bank.words
    assert "dawn" in found.scene_bank.words


def test_rows_are_the_training_images_in_order(prepared: Prepared, data: CaptionData, built: Encoders) -> None:
    images = data.split("train")
    assert prepared.train_images == images
    assert prepared.train.names == tuple(image.name for image in images)
    assert prepared.dev_images == data.split("val")
    for row in (0, 7, 23):
        for c, caption in enumerate(images[row].captions):
            assert prepared.tokenizer.decode(prepared.captions.tokens[row, c]) == prepared.tokenizer.normalise(caption)
            vector = built.text.embed([caption])[0]
            torch.testing.assert_close(prepared.captions.text[row, c].float(), vector, atol=2e-3, rtol=2e-3)
    assert prepared.text_dim == built.text.dim


def test_image_with_fewer_captions_repeats_its_own(
    tiny: Experiment, data: CaptionData, built: Encoders, cache: Path
) -> None:
    first, *rest = data.split("train")
    found = prepare(tiny, with_split(data, "train", [replace(first, captions=first.captions[:2]), *rest]), built, cache)
    texts = [found.tokenizer.decode(row) for row in found.captions.tokens[0]]
    assert texts == [found.tokenizer.normalise(first.captions[c]) for c in (0, 1, 0, 1, 0)]
    captions = [*first.captions[:2], *(caption for image in rest for caption in image.captions)]
    assert dict(zip(found.detail_bank.words, found.detail_bank.counts, strict=True)) == detail_words(
        captions, min_count=tiny.banks.min_count, limit=tiny.banks.max_detail
    )


def test_keyword_banks_lie_in_the_space_of_the_images(prepared: Prepared, built: Encoders) -> None:
    bank = prepared.detail_bank
    with torch.no_grad():
        wanted = prepared.clip_head.embed_text(built.text.embed(bank.words))
    torch.testing.assert_close(bank.embeddings, wanted, atol=1e-5, rtol=1e-4)


def never(*arguments: object) -> Any:
    raise KeyboardInterrupt


def test_prepared_once_is_opened_again(
    tiny: Experiment, data: CaptionData, built: Encoders, prepared: Prepared, cache: Path
) -> None:
    again = prepare(tiny, data, replace(built, fit_head=never), cache)
    assert again.folder == prepared.folder
    assert_learned_the_same(again, prepared)
    assert_learned_the_same(open_prepared(prepared.folder), prepared)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": VocabularyConfig(min_count=3, max_tokens=24)},
        {"vocabulary": VocabularyConfig(min_count=1, max_tokens=5)},
        {"banks": KeywordBanksConfig(min_count=2, max_scene=3, max_detail=20)},
        {"dim": 64},
    ],
)
def test_what_decides_the_outcome_is_prepared_anew(
    tiny: Experiment, data: CaptionData, built: Encoders, cache: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(replace(tiny, **change), data, replace(built, fit_head=never), cache)


def test_other_marks_of_the_phrases_are_prepared_anew(
    tiny: Experiment, data: CaptionData, built: Encoders, cache: Path, tmp_path: Path
) -> None:
    marked = replace(tiny, banks=replace(tiny.banks, source="phrases", min_count=1))
    here = replace(data, root=tmp_path)
    for types in ("scene", "other"):
        line = {"image": data.split("train")[0].name, "sentences": [f"[/EN#1/{types} a zyzzyva]"]}
        (tmp_path / "entities.jsonl").write_text(json.dumps(line))
        with pytest.raises(KeyboardInterrupt):
            prepare(marked, here, replace(built, fit_head=never), cache)
        prepare(marked, here, built, cache)


def test_what_only_training_reads_is_not_prepared_anew(
    tiny: Experiment, data: CaptionData, built: Encoders, prepared: Prepared, cache: Path
) -> None:
    asked = replace(tiny.keywords, new_images="all")  # of the same heads
    other = replace(tiny, seed=9, train=replace(tiny.train, steps=7), keywords=asked)
    assert prepare(other, data, replace(built, fit_head=never), cache).folder == prepared.folder


def test_an_arm_without_words_shares_what_its_study_prepared(
    tiny: Experiment, data: CaptionData, built: Encoders, prepared: Prepared, cache: Path, tmp_path: Path
) -> None:
    baseline = replace(tiny, guidance=NoGuidanceConfig())
    assert prepare(baseline, data, replace(built, fit_head=never), cache).folder == prepared.folder
    alone = prepare(baseline, data, built, tmp_path)
    assert alone.folder != prepared.folder
    assert alone.supervision is None


def test_preparation_that_dies_midway_is_never_taken_for_complete(
    tiny: Experiment, data: CaptionData, built: Encoders, prepared: Prepared, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny, data, replace(built, fit_head=never), tmp_path)
    assert_learned_the_same(prepare(tiny, data, built, tmp_path), prepared)


@pytest.mark.parametrize("split", ["train", "val"])
def test_image_without_caption_is_named(
    tiny: Experiment, data: CaptionData, built: Encoders, cache: Path, split: str
) -> None:
    first, *rest = data.split(split)
    with pytest.raises(DataError, match=f"{first.name} has no caption: add one to the caption file or take it out"):
        prepare(tiny, with_split(data, split, [replace(first, captions=()), *rest]), built, cache)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize("spoil", [damage, Path.unlink])
def test_picture_that_cannot_be_read_is_named(
    tiny: Experiment,
    data: CaptionData,
    built: Encoders,
    cache: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
) -> None:
    first, *rest = data.split("train")
    copy = tmp_path / first.name
    shutil.copy(first.path, copy)
    spoil(copy)
    with pytest.raises(ValueError, match=first.name):
        prepare(tiny, with_split(data, "train", [replace(first, path=copy), *rest]), built, cache)


def test_choices_are_made_on_dev_or_val_and_on_nothing_else(data: CaptionData) -> None:
    images = data.split("val")
    assert dev_split(replace(data, splits={"train": images, "dev": images, "val": images})) == "dev"
    assert dev_split(replace(data, splits={"train": images, "val": images, "test": images})) == "val"
    with pytest.raises(DataError, match="has no 'dev' or 'val' split to choose on; it has train, test"):
        dev_split(replace(data, splits={"train": images, "test": images}))


def test_what_is_prepared_is_found_from_any_folder(
    tiny: Experiment, data: CaptionData, built: Encoders, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths given relative to one folder are good in another."""
    monkeypatch.chdir(data.root.parent)
    near = data.root.parent

    def relative(images: Sequence[CaptionedImage]) -> tuple[CaptionedImage, ...]:
        return tuple(replace(image, path=image.path.relative_to(near)) for image in images)

    moved = replace(data, splits={name: relative(images) for name, images in data.splits.items()})
    folder = prepare(tiny, moved, built, cache).folder
    monkeypatch.chdir(tmp_path)
    found = open_prepared(folder)
    assert all(image.path.is_file() for image in (*found.train_images, *found.dev_images))
