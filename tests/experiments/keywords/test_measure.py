"""Retrieval figures against a slow count."""

from collections.abc import Callable

import pytest
import torch

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.data.boxed_phrases import BoxedPhrases
from regioncap.experiments.keywords.inputs import inputs_of
from regioncap.experiments.keywords.measure import word_retrieval
from regioncap.experiments.prepare import Prepared
from regioncap.guidance import SemanticGuidance, caption_words


@pytest.mark.parametrize("arm", ["+graph+guidance", "similar words"])
def test_precision_and_recall_are_those_of_the_first_five_words(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, arm: str
) -> None:
    captioner = make_captioner(arm)
    figures = word_retrieval(captioner, prepared.dev, prepared.dev_images)
    guidance = captioner.guidance
    assert isinstance(guidance, SemanticGuidance)
    images = prepared.dev.images(torch.arange(len(prepared.dev)))
    with torch.no_grad():
        condition = captioner.condition(images)
        queries = captioner.keyword_heads(inputs_of(images))
        ranked = guidance.ranked(condition.g, condition.regions.features, condition.regions.valid, queries, count=5)
    for name, bank in (("scene", guidance.scene_bank), ("detail", guidance.detail_bank)):
        precision, recall, ceiling = [], [], []
        for image, words in zip(prepared.dev_images, getattr(ranked, name).tolist(), strict=True):
            wanted = {word for caption in image.captions for word in caption_words(caption)} & set(bank.words)
            right = len(wanted & {bank.words[row] for row in words})
            precision.append(right / 5)
            ceiling.append(min(5, len(wanted)) / 5)
            if wanted:
                recall.append(right / len(wanted))
        assert figures[f"{name}.precision_5"] == pytest.approx(sum(precision) / len(precision))
        assert figures[f"{name}.ceiling_5"] == pytest.approx(sum(ceiling) / len(ceiling))
        assert figures[f"{name}.recall_5"] == pytest.approx(sum(recall) / len(recall))
    assert not any(key.startswith("regions.") for key in figures)


def test_regions_are_measured_against_the_phrases_of_their_boxes(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    captioner = make_captioner("+graph+guidance")
    guidance = captioner.guidance
    assert isinstance(guidance, SemanticGuidance)
    images = prepared.dev.images(torch.arange(len(prepared.dev)))
    with torch.no_grad():
        condition = captioner.condition(images)
        ranked = guidance.ranked(
            condition.g,
            condition.regions.features,
            condition.regions.valid,
            captioner.keyword_heads(inputs_of(images)),
            count=5,
        )
    assert ranked.regions is not None
    bank = guidance.detail_bank.words
    box = images.regions.boxes[0, 0].tolist()
    third, sixth = (
        bank[ranked.regions[0, 0, 2]],
        next(word for row, word in enumerate(bank) if row not in ranked.regions[0].flatten().tolist()),
    )
    for word, hit in ((third, True), (sixth, False)):
        phrases = {prepared.dev.names[0]: (BoxedPhrases(box=tuple(box), phrases=(f"a {word}",)),)}
        figures = word_retrieval(captioner, prepared.dev, prepared.dev_images, phrases)
        assert (figures["regions.hit_3"] > 0) == hit
        assert (figures["regions.precision_3"] > 0) == hit
        assert figures["regions.ceiling_3"] == pytest.approx(1 / 3)


def test_without_guidance_there_is_nothing_to_measure(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    assert word_retrieval(make_captioner("+graph"), prepared.dev, prepared.dev_images) == {}


def test_a_scale_that_is_not_in_use_has_no_figures(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    scene = word_retrieval(make_captioner("scene words"), prepared.dev, prepared.dev_images)
    assert {key.split(".")[0] for key in scene} == {"scene"}
    detail = word_retrieval(make_captioner("detail words"), prepared.dev, prepared.dev_images)
    assert {key.split(".")[0] for key in detail} == {"detail"}
