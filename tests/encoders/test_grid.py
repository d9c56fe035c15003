from dataclasses import replace

import pytest
import torch
from torch import Tensor

from regioncap.encoders import EfficientNetLiteConfig, GridEncoderConfig, VitMapConfig, load_efficientnet_lite

SMALL = GridEncoderConfig(image_size=96)


@pytest.fixture(scope="module")
def images() -> Tensor:
    # Smooth pictures: the trunk's answer to noise is nearly constant.
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)


def test_cells_are_the_feature_map_in_reading_order(images):
    encoder = SMALL.build()
    seen = encoder(images)
    feature_map = load_efficientnet_lite(SMALL.backbone.weights)(images)
    for row in range(3):
        for column in range(3):
            torch.testing.assert_close(
                seen.regions.features[:, 3 * row + column], feature_map[:, :, row, column], atol=1e-4, rtol=0
            )
            expected = torch.tensor([column / 3, row / 3, (column + 1) / 3, (row + 1) / 3]).expand(3, 4)
            torch.testing.assert_close(seen.regions.boxes[:, 3 * row + column], expected)
    torch.testing.assert_close(seen.pooled, feature_map.mean((2, 3)), atol=1e-4, rtol=0)


def test_boxes_tile_the_image():
    boxes = GridEncoderConfig().build().cells
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert boxes.shape == (49, 4)
    assert areas.sum() == pytest.approx(1.0)
    assert len({tuple(box) for box in boxes.tolist()}) == 49
    assert boxes.min() == 0.0
    assert boxes.max() == 1.0


def test_shapes_are_those_announced(images):
    encoder = SMALL.build()
    seen = encoder(images)
    assert seen.pooled.shape == (3, encoder.pooled_dim)
    assert seen.regions.features.shape == (3, encoder.regions_per_image, encoder.region_dim)
    assert encoder.image_size == 96
    assert bool(seen.regions.valid.all())
    assert bool((seen.regions.scores == 1.0).all())
    assert seen.regions.words.shape == seen.regions.word_scores.shape == (3, encoder.regions_per_image, 0)
    assert (encoder.words, encoder.words_per_region) == ((), 0)


def test_batch_mates_change_nothing(images):
    encoder = SMALL.build()
    together, alone = encoder(images), encoder(images[1:2])
    torch.testing.assert_close(together.regions.features[1:2], alone.regions.features, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_is_near_and_not_equal(images):
    exact = SMALL.build()(images).pooled
    rough = replace(SMALL, precision="bfloat16").build()(images).pooled
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough).min() > 0.98


def test_encoder_is_frozen(images):
    encoder = SMALL.build()
    assert not encoder(images).pooled.requires_grad
    assert not any(p.requires_grad for p in encoder.parameters())


def test_bad_config_is_named():
    with pytest.raises(ValueError, match=r"encoder\.image_size must be a positive multiple of 32, got 100"):
        GridEncoderConfig(image_size=100).build()
    with pytest.raises(ValueError, match=r"encoder\.image_size must be at least 1, got 0"):
        GridEncoderConfig(image_size=0)
    with pytest.raises(ValueError, match="pip install"):
        GridEncoderConfig(backbone=EfficientNetLiteConfig(weights="missing.pth")).build()
    with pytest.raises(ValueError, match="float32 or bfloat16, got int8"):
        GridEncoderConfig(precision="int8").build()


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="64 pixels wide, the encoder wants 96"):
        SMALL.build()(torch.zeros(1, 3, 64, 64))


def test_any_backbone_gives_regions(clip_folder):
    encoder = GridEncoderConfig(backbone=VitMapConfig(weights=str(clip_folder)), image_size=64).build()
    seen = encoder(torch.rand(2, 3, 64, 64))
    assert seen.regions.features.shape == (2, encoder.regions_per_image, encoder.region_dim) == (2, 16, 32)
    torch.testing.assert_close(seen.pooled, seen.regions.features.mean(1))


def test_coarser_cells_are_means_of_finer_ones(images):
    fine, coarse = SMALL.build()(images), replace(SMALL, cells=1).build()(images)
    assert coarse.regions.features.shape == (3, 1, 1280)
    torch.testing.assert_close(coarse.regions.features[:, 0], fine.regions.features.mean(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(coarse.pooled, fine.pooled)
    assert coarse.regions.boxes[0].tolist() == [[0.0, 0.0, 1.0, 1.0]]


def test_the_image_vector_alone(images):
    encoder = SMALL.build()
    assert torch.equal(encoder.pool(images), encoder(images).pooled)


@pytest.mark.parametrize(("cells", "says"), [(0, "at least 1"), (4, "at most the 3")])
def test_cells_that_cannot_be(cells, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, cells=cells).build()
