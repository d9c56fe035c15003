"""Keyword heads: what they read, that padding and batch-mates change nothing, that every weight learns."""

import pytest
import torch

from regioncap.guidance import KeywordBank, KeywordHeads, KeywordHeadsConfig, KeywordInputs

B, N, G, R, ES, ED = 3, 4, 6, 5, 8, 7
READS = ("image", "image-and-regions")


def bank(words: int, width: int) -> KeywordBank:
    generator = torch.Generator().manual_seed(words)
    return KeywordBank(
        words=tuple(f"w{number}" for number in range(words)),
        counts=tuple(range(words, 0, -1)),
        embeddings=torch.randn(words, width, generator=generator),
    )


def inputs(seed: int = 0) -> KeywordInputs:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(B, N, 2, 2, generator=generator).sort(dim=2).values
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[1, 2:] = False
    return KeywordInputs(
        pooled=torch.randn(B, G, generator=generator),
        regions=torch.randn(B, N, R, generator=generator) * valid[..., None],
        boxes=corners.flatten(2) * valid[..., None],
        valid=valid,
    )


def heads(**config: float | str) -> KeywordHeads:
    torch.manual_seed(0)
    return KeywordHeadsConfig(hidden=16, **config).build(G, R, bank(9, ES), bank(11, ED)).eval()  # type: ignore[arg-type]


def of(given: KeywordInputs, rows: slice, slots: slice = slice(None)) -> KeywordInputs:
    return KeywordInputs(
        pooled=given.pooled[rows],
        regions=given.regions[rows, slots],
        boxes=given.boxes[rows, slots],
        valid=given.valid[rows, slots],
    )


def test_shapes_and_padding_is_zero() -> None:
    said = heads()(inputs())
    assert said.scene.shape == (B, ES)
    assert said.detail.shape == (B, ED)
    assert said.regions.shape == (B, N, ED)
    assert not said.regions[1, 2:].any()
    assert said.regions[1, :2].any()


@pytest.mark.parametrize("reads", READS)
def test_padding_and_batch_mates_change_nothing(reads: str) -> None:
    stage, given = heads(image_reads=reads), inputs()
    together = stage(given)
    alone = stage(of(given, slice(1, 2), slice(0, 2)))
    torch.testing.assert_close(alone.scene, together.scene[1:2])
    torch.testing.assert_close(alone.detail, together.detail[1:2])
    torch.testing.assert_close(alone.regions, together.regions[1:2, :2])


def test_an_image_without_regions_is_named_by_itself_alone() -> None:
    given = inputs()
    bare = of(given, slice(None), slice(0, 0))
    blind = KeywordInputs(
        pooled=given.pooled, regions=given.regions, boxes=given.boxes, valid=torch.zeros(B, N, dtype=torch.bool)
    )
    stage = heads()
    torch.testing.assert_close(stage(bare).scene, stage(blind).scene)
    assert stage(bare).regions.shape == (B, 0, ED)


@pytest.mark.parametrize("reads", READS)
def test_the_image_hears_its_regions_where_it_is_to(reads: str) -> None:
    stage, given = heads(image_reads=reads), inputs()
    other = inputs(1)
    there = KeywordInputs(pooled=given.pooled, regions=other.regions, boxes=given.boxes, valid=given.valid)
    heard = reads == "image-and-regions"
    for name in ("scene", "detail"):
        assert torch.equal(getattr(stage(given), name), getattr(stage(there), name)) != heard, name
    assert not torch.allclose(stage(given).regions, stage(there).regions)


def test_where_a_region_lies_is_heard() -> None:
    given, stage = inputs(), heads()
    moved = KeywordInputs(pooled=given.pooled, regions=given.regions, boxes=given.boxes * 0.5, valid=given.valid)
    assert not torch.allclose(stage(given).regions, stage(moved).regions)


def test_calibration_takes_off_mean_and_spread_but_never_blows_up_a_dead_channel() -> None:
    stage, given = heads(), inputs()
    given.pooled[:, 0] = 7.0
    stage.calibrate(given)
    scaled = stage.image_scaling(given.pooled)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(G), atol=1e-5, rtol=0)
    assert not scaled[:, 0].any()
    assert scaled.abs().max() < 3


@pytest.mark.parametrize("reads", READS)
def test_gradient_reaches_every_parameter_but_the_mix_which_scores_use(reads: str) -> None:
    stage = heads(image_reads=reads).train()
    said = stage(inputs())
    (said.scene.square().sum() + said.detail.square().sum() + said.regions.square().sum() + said.mix.sum()).backward()
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hidden": 0}, r"keywords\.heads\.hidden must be at least 1, got 0"),
        ({"dropout": 1.0}, r"keywords\.heads\.dropout must lie in \[0, 1\), got 1\.0"),
        ({"region_dropout": -0.1}, r"keywords\.heads\.region_dropout must lie in \[0, 1\), got -0\.1"),
    ],
)
def test_a_config_that_cannot_be_is_refused(config: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KeywordHeadsConfig(**config)  # type: ignore[arg-type]


def test_dropout_of_images_and_of_regions_are_apart() -> None:
    given = inputs()
    torch.manual_seed(0)
    images = heads(dropout=0.9, region_dropout=0.0).train()
    assert torch.equal(images(given).regions, images(given).regions)
    assert not torch.equal(images(given).scene, images(given).scene)
    regions = heads(dropout=0.0, region_dropout=0.9).train()
    assert not torch.equal(regions(given).regions, regions(given).regions)
