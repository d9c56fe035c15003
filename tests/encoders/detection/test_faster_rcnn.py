from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.encoders.detection.box_heads import MeanMlpHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import DetectorConfig
from regioncap.encoders.detection.faster_rcnn import FasterRcnnEncoderConfig
from regioncap.encoders.detection.small_trunk import SmallTrunkConfig
from regioncap.encoders.detection.stored import load_detector

DETECTOR = DetectorConfig(
    classes=("cat", "dog"),
    image_size=64,
    trunk=SmallTrunkConfig(channels=8, blocks=2),
    head=MeanMlpHeadConfig(dim=12),
    anchor_sizes=(12, 24),
    proposals_before_nms=40,
    proposals=20,
    roi_size=3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A detector that has learned nothing but whose batch norms have seen pictures."""
    torch.manual_seed(0)
    detector = DETECTOR.build().train()
    nothing = torch.zeros(1, 0, dtype=torch.bool)
    target = BoxTargets(boxes=torch.tensor([[0.1, 0.1, 0.4, 0.5]]), labels=torch.tensor([1]), attributes=nothing)
    for _ in range(3):
        detector.losses(detector.trunk_features(pictures(4)), [target] * 4)
    # The last layer starts out at random: wider apart, its scores differ from box to box.
    detector.model.roi_heads.box_predictor.cls_score.weight.data.mul_(8)
    path = tmp_path_factory.mktemp("detector")
    detector.save(path)
    return path


@pytest.fixture(scope="module")
def config(folder: Path) -> FasterRcnnEncoderConfig:
    return FasterRcnnEncoderConfig(weights=folder, regions=6, precision="float32")


def pictures(n: int, seed: int = 1) -> torch.Tensor:
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=64, mode="nearest")


def test_shapes_and_properties_agree(config: FasterRcnnEncoderConfig) -> None:
    encoder = config.build()
    out = encoder(pictures(3))
    assert out.pooled.shape == (3, encoder.pooled_dim) == (3, 12 * 16)
    assert out.regions.features.shape == (3, encoder.regions_per_image, encoder.region_dim) == (3, 6, 12 + 12)
    assert encoder.image_size == 64
    assert encoder.classes == encoder.words == ("cat", "dog")
    assert out.regions.words.shape == (3, 6, encoder.words_per_region) == (3, 6, 1)


def test_a_regions_word_is_its_class_with_its_score(config: FasterRcnnEncoderConfig) -> None:
    encoder = config.build()
    regions, found = encoder(pictures(3)).regions, encoder.detect(pictures(3))
    assert torch.equal(regions.words[..., 0][found.valid], found.labels[found.valid])
    assert torch.equal(regions.word_scores[..., 0][found.valid], found.scores[found.valid])


def test_boxes_are_real_boxes_inside_the_picture(config: FasterRcnnEncoderConfig) -> None:
    regions = config.build()(pictures(4)).regions
    boxes = regions.boxes[regions.valid]
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert ((regions.scores >= 0) & (regions.scores <= 1)).all()


def test_padding_is_zero(config: FasterRcnnEncoderConfig) -> None:
    regions = replace(config, score_threshold=0.55, regions=30).build()(pictures(6)).regions
    assert regions.valid.any(dim=1).all()
    assert not regions.valid.all()
    for tensor in (regions.features, regions.boxes, regions.scores):
        assert (tensor[~regions.valid] == 0).all()


def test_batch_mates_change_nothing(config: FasterRcnnEncoderConfig) -> None:
    encoder, images = config.build(), pictures(5)
    order = torch.tensor([3, 0, 4, 2, 1])
    together, shuffled = encoder(images), encoder(images[order])
    torch.testing.assert_close(together.pooled[order], shuffled.pooled, rtol=1e-4, atol=1e-5)
    for name in ("features", "boxes", "scores", "valid"):
        whole = getattr(together.regions, name)
        torch.testing.assert_close(whole[order], getattr(shuffled.regions, name), rtol=1e-4, atol=1e-5)
        for i in range(5):
            alone = getattr(encoder(images[i : i + 1]).regions, name)
            torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_fewer_slots_keep_the_best(config: FasterRcnnEncoderConfig) -> None:
    many = replace(config, regions=30).build()(pictures(3)).regions
    few = replace(config, regions=3).build()(pictures(3)).regions
    assert (many.valid.sum(1) > 3).all()
    torch.testing.assert_close(few.boxes, many.boxes[:, :3])
    torch.testing.assert_close(few.features, many.features[:, :3])


def test_picture_without_detection_is_one_region(config: FasterRcnnEncoderConfig) -> None:
    encoder = replace(config, score_threshold=1.0).build()
    assert not encoder.detect(pictures(2)).valid.any()
    regions = encoder(pictures(2)).regions
    assert regions.valid.tolist() == [[True] + [False] * 5] * 2
    assert regions.boxes[:, 0].tolist() == [[0, 0, 1, 1]] * 2
    assert (regions.scores == 0).all()
    assert (regions.words == -1).all()  # the whole picture is no detection: nothing names it
    assert (regions.features[:, 0].abs().sum(-1) > 0).all()


def test_region_features_are_the_box_heads_output_for_the_kept_boxes(config: FasterRcnnEncoderConfig) -> None:
    """By torchvision's own layers, with batch norm not folded."""
    images = pictures(2)
    regions = config.build()(images).regions
    model = load_detector(config.weights).model
    maps = model.backbone((images - 0.5) / 0.25)["0"]
    for i in range(2):
        boxes = regions.boxes[i][regions.valid[i]] * 64
        expected = model.roi_heads.box_head(model.roi_heads.box_roi_pool({"0": maps[i : i + 1]}, [boxes], [(64, 64)]))
        torch.testing.assert_close(regions.features[i][regions.valid[i]], expected, rtol=1e-3, atol=1e-4)


def test_pooled_is_the_map_in_four_by_four_cells(config: FasterRcnnEncoderConfig) -> None:
    images = pictures(2)
    maps = load_detector(config.weights).model.backbone((images - 0.5) / 0.25)["0"]  # 2 12 8 8: cells of 2x2
    pooled = config.build()(images).pooled.view(2, 12, 4, 4)
    for row in range(4):
        for column in range(4):
            cell = maps[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((-1, -2))
            torch.testing.assert_close(pooled[:, :, row, column], cell, rtol=1e-3, atol=1e-4)


def test_it_is_frozen(config: FasterRcnnEncoderConfig) -> None:
    encoder = config.build()
    before = encoder(pictures(2))
    encoder.train()
    after = encoder(pictures(2))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(before.regions.features, after.regions.features)
    assert torch.equal(before.pooled, after.pooled)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    "change", [{"regions": 2}, {"score_threshold": 0.6}, {"nms_threshold": 0.05}, {"precision": "bfloat16"}]
)
def test_every_field_changes_the_regions(config: FasterRcnnEncoderConfig, change: dict[str, object]) -> None:
    plain = config.build()(pictures(4)).regions.boxes
    other = replace(config, **change).build()(pictures(4)).regions.boxes
    assert not torch.equal(plain, other)


def test_pool_cells_change_the_image_vector(config: FasterRcnnEncoderConfig) -> None:
    encoder = replace(config, pool_cells=2).build()
    assert encoder(pictures(1)).pooled.shape == (1, encoder.pooled_dim) == (1, 12 * 4)


def test_weights_folder_is_read(config: FasterRcnnEncoderConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere/detector\.json is missing"):
        replace(config, weights=tmp_path / "nowhere").build()


@pytest.mark.parametrize(
    ("change", "field"),
    [({"regions": 0}, "regions"), ({"pool_cells": 0}, "pool_cells"), ({"nms_threshold": 2.0}, "nms_threshold")],
)
def test_bad_config_names_the_field(config: FasterRcnnEncoderConfig, change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=rf"encoder\.{field}"):
        replace(config, **change)
