import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from regioncap.encoders import ClipHeadConfig, ContrastiveConfig, info_nce, retrieval_recall, train_clip_head

SHORT = ContrastiveConfig(epochs=2, batch_size=8)


def unit(*shape: int, seed: int = 0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def planted(n: int, captions: int = 3, seed: int = 0):
    """Features whose hidden cause is shared between an image and its captions, seen through fixed random maps."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.Generator().manual_seed(99)
    cause = torch.randn(n, 6, generator=random)
    pooled = cause @ torch.randn(6, 20, generator=maps) + 0.1 * torch.randn(n, 20, generator=random)
    text = cause.unsqueeze(1) @ torch.randn(6, 16, generator=maps)
    return pooled, text + 0.1 * torch.randn(n, captions, 16, generator=random)


def trained(config=SHORT, dropout=0.0):
    torch.manual_seed(0)
    head = ClipHeadConfig(dropout=dropout).build(20, 16, 8)
    train_clip_head(head, *planted(24), config)
    return torch.cat([p.detach().flatten() for p in head.parameters()])


@pytest.mark.parametrize("captions", [1, 3])
def test_info_nce_equals_slow_loop(captions):
    images, texts, scale = unit(4, 5), unit(4, captions, 5, seed=1), 3.0
    total = 0.0
    for i in range(4):
        for k in range(captions):
            own = math.exp(scale * float(images[i] @ texts[i, k]))
            others = sum(
                math.exp(scale * float(images[i] @ texts[j, m])) for j in range(4) if j != i for m in range(captions)
            )
            rivals = sum(math.exp(scale * float(images[j] @ texts[i, k])) for j in range(4))
            total += -math.log(own / (own + others)) - math.log(own / rivals)
    expected = total / (2 * 4 * captions)
    assert info_nce(images, texts, torch.tensor(scale)).item() == pytest.approx(expected, rel=1e-5)


def test_one_caption_is_clips_loss():
    images, texts = unit(6, 5), unit(6, 5, seed=1)
    logits = 4.0 * images @ texts.T
    expected = 0.5 * (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6)))
    torch.testing.assert_close(info_nce(images, texts.unsqueeze(1), torch.tensor(4.0)), expected)


def test_own_captions_are_no_negatives():
    images, texts = unit(2, 5), unit(2, 2, 5, seed=1)
    twice = torch.cat([texts, texts], dim=1)
    images_to_texts = info_nce(images, texts, torch.tensor(5.0)), info_nce(images, twice, torch.tensor(5.0))
    # Doubling doubles the negatives of other images, yet a perfect match must still reach zero.
    assert images_to_texts[0] < images_to_texts[1]
    axes = torch.eye(2, 5)
    assert info_nce(axes, axes.unsqueeze(1).expand(-1, 4, -1), torch.tensor(100.0)).item() == pytest.approx(0.0)


def test_info_nce_needs_a_negative():
    with pytest.raises(ValueError, match="at least 2 images"):
        info_nce(unit(1, 5), unit(1, 2, 5), torch.tensor(1.0))


def test_learns_a_planted_alignment():
    torch.manual_seed(0)
    head = ClipHeadConfig().build(20, 16, 8)
    seen: list[tuple[int, float]] = []
    config = ContrastiveConfig(epochs=30, batch_size=64, learning_rate=1e-2)
    train_clip_head(head, *planted(256), config, lambda epoch, values: seen.append((epoch, values["loss"])))
    pooled, text = planted(64, seed=1)
    owners = torch.arange(64).repeat_interleave(3)
    with torch.no_grad():
        recall = retrieval_recall(head.embed_image(pooled), head.embed_text(text.flatten(0, 1)), owners)
    assert recall.image_to_text[1] > 0.8
    assert recall.text_to_image[1] > 0.8
    assert [epoch for epoch, _ in seen] == list(range(1, 31))
    assert seen[-1][1] < 0.2 * seen[0][1]


def test_every_field_is_read():
    base = trained()
    changes = {
        "epochs": 3,
        "batch_size": 12,
        "captions_per_image": 2,
        "learning_rate": 1e-2,
        "weight_decay": 1.0,
        "seed": 1,
    }
    for field, value in changes.items():
        assert not torch.equal(base, trained(replace(SHORT, **{field: value}))), field


def test_same_seed_same_head_and_random_state_is_kept():
    torch.manual_seed(5)
    head = ClipHeadConfig(dropout=0.5).build(20, 16, 8)
    state = torch.get_rng_state()
    train_clip_head(head, *planted(24), SHORT)
    assert torch.equal(state, torch.get_rng_state())
    assert head.training
    assert torch.equal(trained(dropout=0.5), trained(dropout=0.5))


def test_one_image_is_refused():
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        train_clip_head(ClipHeadConfig().build(20, 16, 8), *planted(1), SHORT)


def test_recall_equals_slow_loop():
    images, texts = unit(9, 3), unit(21, 3, seed=1)
    owners = torch.cat([torch.arange(9), torch.arange(9), torch.tensor([0, 0, 4])])
    recall = retrieval_recall(images, texts, owners, depths=(1, 2, 5))
    for k in (1, 2, 5):
        found = [
            any(owners[t] == i for t in sorted(range(21), key=lambda t: -float(images[i] @ texts[t]))[:k])
            for i in range(9)
        ]
        assert recall.image_to_text[k] == pytest.approx(sum(found) / 9)
        found = [int(owners[t]) in sorted(range(9), key=lambda i: -float(images[i] @ texts[t]))[:k] for t in range(21)]
        assert recall.text_to_image[k] == pytest.approx(sum(found) / 21)


def test_a_collapsed_head_finds_nothing():
    same = torch.ones(6, 3)
    recall = retrieval_recall(same, same, torch.arange(6), depths=(1, 5))
    assert recall.image_to_text == recall.text_to_image == {1: 0.0, 5: 0.0}


def test_an_image_without_text_is_named():
    with pytest.raises(ValueError, match="image 1 owns no text"):
        retrieval_recall(unit(2, 3), unit(2, 3), torch.tensor([0, 0]))


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_size": 1}, {"captions_per_image": 0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}],
)
def test_bad_config_is_named(wrong):
    with pytest.raises(ValueError, match=rf"contrastive\.{next(iter(wrong))} must"):
        ContrastiveConfig(**wrong)
