"""Keyword banks of a study: the source of their words, and that nothing of dev or test gets in."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from regioncap.experiments import banks
from regioncap.experiments.banks import KeywordBanksConfig, build_banks, marked_captions
from regioncap.experiments.data.dataset import CaptionedImage, DataError
from regioncap.experiments.data.entity_phrases import FILE
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.prepare import Prepared

CAPTIONS = ("A grey dog runs on the wharf .", "Two dogs on a wharf near the anvil")
MARKED = (
    "[/EN#1/animals A grey dog] runs on [/EN#2/scene the wharf] .",
    "[/EN#3/other anvil] near [/EN#4/scene a quay]",
)
PLANTED = ("[/EN#5/other A zyzzyva] in [/EN#6/scene a quoin] and [/EN#7/scene a quoin]",) * 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = {"train.jpg": MARKED, "dev.jpg": PLANTED, "test.jpg": PLANTED}
    lines = [json.dumps({"image": name, "sentences": own}) for name, own in pictures.items()]
    (tmp_path / FILE).write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def train(folder: Path) -> list[CaptionedImage]:
    return [CaptionedImage(name="train.jpg", path=folder / "train.jpg", captions=CAPTIONS)]


Words = Callable[[KeywordBanksConfig, Path, Sequence[CaptionedImage]], tuple[dict[str, int], dict[str, int]]]


@pytest.fixture
def words(built: Encoders, prepared: Prepared) -> Words:
    """Words and counts of both banks."""

    def build(
        config: KeywordBanksConfig, root: Path, images: Sequence[CaptionedImage]
    ) -> tuple[dict[str, int], dict[str, int]]:
        captions = [caption for image in images for caption in image.captions]
        marked = marked_captions(config, root, images)
        scene, detail = build_banks(config, captions, marked, built.keywords, prepared.clip_head)
        return dict(zip(scene.words, scene.counts, strict=True)), dict(zip(detail.words, detail.counts, strict=True))

    return build


def test_phrases_decide_where_they_are_the_source(words: Words, folder: Path, train: list[CaptionedImage]) -> None:
    scene, detail = words(KeywordBanksConfig(source="phrases", min_count=1), folder, train)
    assert scene == {"wharf": 2}
    assert detail == {"anvil": 1, "dog": 1, "dogs": 1, "grey": 1, "two": 1}


def test_part_of_speech_decides_elsewhere_and_no_file_is_read(
    words: Words, tmp_path: Path, train: list[CaptionedImage]
) -> None:
    scene, detail = words(KeywordBanksConfig(min_count=1), tmp_path / "nowhere", train)
    assert "anvil" in detail
    assert "grey" in detail
    assert "wharf" in scene | detail


def test_phrases_of_dev_and_test_never_enter(words: Words, folder: Path, train: list[CaptionedImage]) -> None:
    config = KeywordBanksConfig(source="phrases", min_count=1)
    scene, detail = words(config, folder, train)
    assert not {"zyzzyva", "quoin"} & (scene.keys() | detail.keys())
    marked = marked_captions(config, folder, train)
    assert "zyzzyva" not in str(marked)
    # The counterpart: planted where they may be learned, the words are in.
    planted = [*train, replace(train[0], name="dev.jpg", captions=("A zyzzyva in a quoin",))]
    scene, detail = words(config, folder, planted)
    assert "zyzzyva" in detail
    assert "quoin" in scene


def test_limits_hold_for_both_sources(words: Words, folder: Path, train: list[CaptionedImage]) -> None:
    for source in ("captions", "phrases"):
        config = KeywordBanksConfig(source=source, min_count=1, max_scene=1, max_detail=2)
        scene, detail = words(config, folder, train)
        assert (len(scene), len(detail)) == (1, 2)
        with pytest.raises(ValueError, match="stands 9 times"):
            words(replace(config, min_count=9), folder, train)


@pytest.mark.parametrize("source", ["captions", "phrases"])
def test_forms_of_verbs_join_the_scene_words_where_asked_for(
    words: Words, folder: Path, train: list[CaptionedImage], source: Literal["captions", "phrases"]
) -> None:
    named = KeywordBanksConfig(source=source, min_count=1)
    (scene, detail), (more, same) = (
        words(config, folder, train) for config in (named, replace(named, activities="verbs"))
    )
    assert more == scene | {"runs": 1}
    assert same == detail
    assert len(words(replace(named, activities="verbs", max_scene=1), folder, train)[0]) == 1


def test_many_words_are_embedded_in_parts_and_stay_in_order(
    built: Encoders, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = KeywordBanksConfig(min_count=1)
    captions = list(CAPTIONS)
    whole = build_banks(config, captions, (), built.keywords, prepared.clip_head)
    monkeypatch.setattr(banks, "EMBEDDED_AT_ONCE", 2)
    for one, other in zip(whole, build_banks(config, captions, (), built.keywords, prepared.clip_head), strict=True):
        torch.testing.assert_close(one.embeddings, other.embeddings)


def test_a_folder_without_marks_is_named(tmp_path: Path, train: list[CaptionedImage]) -> None:
    with pytest.raises(DataError, match=r"entities\.jsonl is missing"):
        marked_captions(KeywordBanksConfig(source="phrases"), tmp_path / "nowhere", train)


@pytest.mark.parametrize(("field", "value"), [("min_count", 0), ("max_scene", 0), ("max_detail", -1)])
def test_a_config_out_of_range_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"banks\.{field} must be .*got {value!r}"):
        KeywordBanksConfig(**{field: value})
