from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from regioncap.encoders import ClipHead, ClipHeadConfig, ContrastiveConfig, GridEncoderConfig
from regioncap.experiments import encoders
from regioncap.experiments.config import Experiment
from regioncap.experiments.encoders import PhotoEncodersSource, ScenesEncodersSource, cross_fit

N, FOLDS = 11, 4


@pytest.fixture
def noise() -> tuple[torch.Tensor, torch.Tensor]:
    """Images and captions that have nothing to do with each other: all that a head can do is learn them by heart."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 48, generator=generator), torch.randn(N, 2, 24, generator=generator)


def fit(pooled: torch.Tensor, text: torch.Tensor) -> tuple[ClipHead, torch.Tensor]:
    return cross_fit(
        pooled,
        text,
        dim=16,
        head=ClipHeadConfig(),
        contrastive=ContrastiveConfig(epochs=80, learning_rate=1e-2, weight_decay=0.0),
        folds=FOLDS,
    )


def test_offset_leads_to_the_embedding_by_a_head_that_never_saw_the_image(
    noise: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled, text = noise
    fitted: list[tuple[ClipHead, torch.Tensor, torch.Tensor]] = []

    def spy(head: ClipHead, pooled: torch.Tensor, text: torch.Tensor, config: ContrastiveConfig) -> None:
        fitted.append((head, pooled.clone(), text.clone()))

    monkeypatch.setattr(encoders, "train_clip_head", spy)  # heads stay random: all differ
    full, offsets = fit(pooled, text)
    assert fitted[0][0] is full
    assert torch.equal(fitted[0][1], pooled)
    assert len(fitted) == 1 + FOLDS
    for i in range(N):
        blind = [head for head, images, _ in fitted if not (images == pooled[i]).all(dim=1).any()]
        assert len(blind) == 1
        with torch.no_grad():
            wanted = blind[0].embed_image(pooled[i : i + 1]) - full.embed_image(pooled[i : i + 1])
        torch.testing.assert_close(offsets[i : i + 1], wanted)
    for head, images, texts in fitted[1:]:
        own = [int((pooled == image).all(dim=1).nonzero()) for image in images]
        assert torch.equal(texts, text[own])  # captions stay with their images
        for one, other in zip(head.text_projection.parameters(), full.text_projection.parameters(), strict=True):
            assert torch.equal(one, other)
            assert not one.requires_grad


def test_folds_keep_the_text_space_of_the_full_head_through_training(
    noise: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[ClipHead] = []
    train = encoders.train_clip_head

    def spy(head: ClipHead, *arguments: object) -> None:
        heads.append(head)
        train(head, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(encoders, "train_clip_head", spy)
    full, _ = fit(*noise)
    words = torch.randn(5, 24)
    for head in heads[1:]:
        assert torch.equal(head.embed_text(words), full.embed_text(words))
        assert not torch.equal(head.image_layers[0].weight, full.image_layers[0].weight)


def test_what_a_head_knows_by_heart_is_gone_after_the_offset(noise: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Planted: on noise a seen image meets its caption and an unseen one cannot."""
    pooled, text = noise
    full, offsets = fit(pooled, text)
    with torch.no_grad():
        seen = full.embed_image(pooled)
        own = full.embed_text(text.flatten(0, 1)).unflatten(0, (N, 2)).mean(1)
        by_heart = F.cosine_similarity(seen, own).mean()
        honest = F.cosine_similarity(seen + offsets, own).mean()
    assert by_heart > 0.7
    assert honest < 0.3


def test_heads_that_are_fitted_anew_are_the_same(noise: tuple[torch.Tensor, torch.Tensor]) -> None:
    first, offsets = fit(*noise)
    torch.rand(3)  # whatever was drawn before
    again, others = fit(*noise)
    assert torch.equal(offsets, others)
    assert all(torch.equal(own, again.state_dict()[name]) for name, own in first.state_dict().items())


def test_the_image_vector_may_come_from_a_grid_of_its_own() -> None:
    cells = GridEncoderConfig(image_size=64)
    both = PhotoEncodersSource(image=cells, whole=GridEncoderConfig(image_size=96)).build()
    alone = PhotoEncodersSource(image=cells).build()
    assert both.key != alone.key
    views = (torch.rand(2, 3, 96, 96), torch.rand(2, 3, 64, 64))
    seen = both.image(*views)
    assert torch.equal(seen.regions.features, alone.image(views[1]).regions.features)
    torch.testing.assert_close(seen.pooled, cells.build().backbone(views[0]).mean((2, 3)))


def test_scenes_head_has_nothing_to_offset(tiny: Experiment) -> None:
    built = tiny.encoders.build()
    head, offsets = built.fit_head(torch.randn(3, 192), torch.randn(3, 2, 16), 32)
    assert not offsets.any()
    assert offsets.shape == (3, 32)
    assert head.embed_image(torch.randn(2, 192)).shape == (2, 32)
    with pytest.raises(ValueError, match="dim must be 32, the width of the scenes encoders; got 64"):
        built.fit_head(torch.randn(3, 192), torch.randn(3, 2, 16), 64)


def test_missing_weights_are_named_with_the_way_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train-scenes-encoders") as caught:
        ScenesEncodersSource(weights=tmp_path).build()
    assert str(tmp_path) in str(caught.value)


def test_one_fold_is_none() -> None:
    with pytest.raises(ValueError, match=r"encoders\.folds must be at least 2, got 1"):
        PhotoEncodersSource(folds=1)
