import pytest
import torch

from regioncap.encoders import AugmentConfig, augment


@pytest.fixture
def views():
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.rand(3, 24, 24)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_default_changes_nothing(views):
    assert not AugmentConfig().changes
    for view, same in zip(views, augment(views, AugmentConfig(), draw()), strict=True):
        assert torch.equal(view, same)


def test_flip_mirrors_every_view(views):
    for view, mirrored in zip(views, augment(views, AugmentConfig(flip=1.0), draw()), strict=True):
        assert torch.equal(mirrored, view.flip(-1))


def test_colour_is_relative_to_the_pictures_own_mean_and_deviation(views):
    (view, _) = views
    (changed, _) = augment(views, AugmentConfig(brightness=0.5, contrast=0.5), draw(3))
    slope = ((changed - changed.mean()) / (view - view.mean())).flatten()
    torch.testing.assert_close(slope, slope[:1].expand_as(slope), rtol=1e-3, atol=1e-4)
    assert 0.5 <= slope[0] <= 1.5
    assert abs(changed.mean() - view.mean()) <= 0.5 * view.std() + 1e-6
    # What is normalised in another way comes out the same, normalised that way.
    (other, _) = augment((4 * view - 1, views[1]), AugmentConfig(brightness=0.5, contrast=0.5), draw(3))
    torch.testing.assert_close(other, 4 * changed - 1, rtol=1e-4, atol=1e-4)


def test_crop_shows_the_same_part_in_every_view():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    half = torch.nn.functional.avg_pool2d(ramp, 2)
    kept = []
    for seed in range(40):
        large, small = augment((ramp, half), AugmentConfig(crop=0.25), draw(seed))
        assert large.shape == ramp.shape
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 2), small, atol=0.04, rtol=0)
        kept.append(float(large.max() - large.min()))
    assert min(kept) < 0.7  # a width of sqrt(1/4) is the least, at an even aspect
    assert min(kept) > 0.4
    assert max(kept) > 0.9


def test_same_draw_gives_the_same_change(views):
    config = AugmentConfig(crop=0.5, brightness=0.2, contrast=0.2, flip=0.5)
    first, again, other = (augment(views, config, draw(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("field", "value"), [("crop", 0.0), ("crop", 1.1), ("brightness", -0.1), ("contrast", 2.0), ("flip", -1.0)]
)
def test_bad_setting_is_named(field, value):
    with pytest.raises(ValueError, match=rf"augment\.{field} must .*, got {value}"):
        AugmentConfig(**{field: value})
