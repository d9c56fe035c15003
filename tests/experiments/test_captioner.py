import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F

from regioncap.encoders import ImageFeatures, Regions
from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner, Condition, HeldOut
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import CaptionGenerator, generate_over
from regioncap.experiments.prepare import Prepared
from regioncap.guidance import Steering

UNSHUFFLED = [arm for arm in ARMS if not arm.startswith("shuffled guidance")]
"""Arms whose images do not depend on their batch: the control takes its words from a batch-mate, on purpose."""
IMAGES = 8


def see(captioner: Captioner, images: ImageFeatures) -> Condition:
    with torch.no_grad():
        return captioner.condition(images)


def assert_same_image(batched: Condition, b: int, alone: Condition) -> None:
    for name in ("g", "fused"):
        torch.testing.assert_close(getattr(batched, name)[b], getattr(alone, name)[0], atol=1e-5, rtol=1e-4)
    for name in ("scene", "detail", "scene_weights"):
        torch.testing.assert_close(
            getattr(batched.guidance, name)[b], getattr(alone.guidance, name)[0], atol=1e-5, rtol=1e-4
        )
    prefixes = [
        condition.prefix.embeddings[i][condition.prefix.valid[i]] for condition, i in ((batched, b), (alone, 0))
    ]
    torch.testing.assert_close(*prefixes, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("arm", UNSHUFFLED)
def test_batch_mates_change_nothing(make_captioner: Callable[[str], Captioner], prepared: Prepared, arm: str) -> None:
    captioner, rows = make_captioner(arm), torch.arange(IMAGES)
    assert len(set(prepared.dev.images(rows).regions.valid.sum(1).tolist())) > 1  # else nothing is padded
    batched = see(captioner, prepared.dev.images(rows))
    for b in range(IMAGES):
        assert_same_image(batched, b, see(captioner, prepared.dev.images(rows[b : b + 1])))


@pytest.mark.parametrize("arm", UNSHUFFLED)
def test_what_stands_in_padded_slots_changes_nothing(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, arm: str
) -> None:
    captioner, rows = make_captioner(arm), torch.arange(IMAGES)
    images = prepared.dev.images(rows)
    regions = images.regions
    waste = torch.full((IMAGES, 2, regions.features.shape[-1]), 1e3)
    padded = Regions(
        features=torch.cat([regions.features.masked_fill(~regions.valid[..., None], -7.0), waste], 1),
        boxes=torch.cat([regions.boxes, torch.rand(IMAGES, 2, 4)], 1),
        scores=torch.cat([regions.scores, torch.ones(IMAGES, 2)], 1),
        valid=torch.cat([regions.valid, torch.zeros(IMAGES, 2, dtype=torch.bool)], 1),
        words=torch.cat([regions.words, torch.zeros(IMAGES, 2, 1, dtype=torch.long)], 1),
        word_scores=torch.cat([regions.word_scores, torch.ones(IMAGES, 2, 1)], 1),
    )
    clean, wasted = see(captioner, images), see(captioner, ImageFeatures(pooled=images.pooled, regions=padded))
    for b in range(IMAGES):
        one = prepared.dev.images(rows[b : b + 1])
        assert_same_image(clean, b, see(captioner, one))
        assert_same_image(wasted, b, see(captioner, one))


@pytest.mark.parametrize("arm", UNSHUFFLED)
def test_captions_of_a_batch_equal_those_one_by_one(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment, arm: str
) -> None:
    captioner = make_captioner(arm)
    texts = [
        [
            text
            for part in generate_over(captioner, prepared.dev, prepared.tokenizer, tiny.search, batch_size=size)
            for text in part.texts
        ]
        for size in (1, 3, 50)
    ]
    assert texts[0] == texts[1] == texts[2]
    assert len(texts[0]) == IMAGES


def test_order_of_regions_changes_the_order_of_their_tokens_alone(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    captioner = make_captioner("+graph+guidance")
    everyone = prepared.dev.images(torch.arange(len(prepared.dev)))
    row = everyone.regions.valid.sum(1).argmax()[None]
    images = prepared.dev.images(row)
    n = images.regions.valid.shape[1]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    assert n > 2
    regions = Regions(**{part.name: getattr(images.regions, part.name)[:, order] for part in fields(Regions)})
    plain, turned = see(captioner, images), see(captioner, ImageFeatures(pooled=images.pooled, regions=regions))
    torch.testing.assert_close(turned.fused, plain.fused, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(turned.regions.features, plain.regions.features[:, order], atol=1e-5, rtol=1e-4)
    tokens = 2
    torch.testing.assert_close(
        turned.prefix.embeddings[:, tokens : tokens + n],
        plain.prefix.embeddings[:, tokens : tokens + n][:, order],
        atol=1e-5,
        rtol=1e-4,
    )


def test_global_vector_is_the_heads_with_the_offset_added(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    captioner = make_captioner("baseline")
    pooled = prepared.dev.images(torch.arange(3)).pooled
    offset = torch.randn(3, captioner.dim, generator=torch.Generator().manual_seed(0))
    head = captioner.clip_head
    with torch.no_grad():
        found = captioner.embed_image(pooled, offset)
        for b in range(3):
            x = pooled[b]
            for layer in head.image_layers[:-1]:
                x = F.gelu(layer(x))
            x = head.image_layers[-1](x)
            wanted = x / x.norm() + offset[b]
            torch.testing.assert_close(found[b], wanted / wanted.norm())


def test_fusion_meets_the_global_vector_at_the_size_of_the_regions(
    make_captioner: Callable[[str], Captioner], prepared: Prepared
) -> None:
    clipcap = see(make_captioner("clipcap"), prepared.dev.images(torch.arange(3)))
    torch.testing.assert_close(clipcap.fused, clipcap.g * math.sqrt(clipcap.g.shape[1]))
    assert clipcap.prefix.embeddings.shape[1] == 10
    assert clipcap.regions.features.shape[1] == 0


def test_new_images_get_no_offset_and_the_mode_is_left_as_it_was(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner, seen = make_captioner("+graph").train(), []
    condition = captioner.condition

    def spy(images: ImageFeatures, held_out: HeldOut | None = None, steering: Steering | None = None) -> Condition:
        seen.append((held_out, captioner.training))
        return condition(images, held_out, steering)

    monkeypatch.setattr(captioner, "condition", spy)
    CaptionGenerator(captioner, prepared.tokenizer, tiny.search)(prepared.train.images(torch.arange(3)), "abc")
    (held_out, training) = seen[0]
    assert held_out is None
    assert not training
    assert captioner.training


def test_rows_pick_and_order_the_images(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment
) -> None:
    captioner = make_captioner("+graph")
    boxes = [
        box
        for part in generate_over(
            captioner, prepared.dev, prepared.tokenizer, tiny.search, rows=torch.tensor([5, 1, 3]), batch_size=1
        )
        for box in part.boxes
    ]
    for box, row in zip(boxes, (5, 1, 3), strict=True):
        assert torch.equal(box, prepared.dev.images(torch.tensor([row])).regions.boxes[0])


@pytest.mark.parametrize("arm", ["+graph", "similar words"])
def test_keyword_heads_are_asked_by_captioners_that_heed_them_alone(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, arm: str
) -> None:
    """Asking takes a good part of a step's time."""
    rows = torch.arange(3)
    asked = []
    spy = HeldOut(offset=prepared.offsets[rows], keyword_heads=lambda inputs: asked.append(inputs))  # type: ignore[arg-type,func-returns-value]
    with torch.no_grad():
        make_captioner(arm).condition(prepared.train.images(rows), spy)
        assert not asked
        with pytest.raises(ValueError, match="pass queries"):
            make_captioner("+graph+guidance").condition(prepared.train.images(rows), spy)
    assert len(asked) == 1
