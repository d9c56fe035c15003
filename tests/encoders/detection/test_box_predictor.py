from dataclasses import replace

import pytest
import torch
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from regioncap.encoders.detection.attributes import AttributeHeadConfig
from regioncap.encoders.detection.box_heads import MeanMlpHeadConfig
from regioncap.encoders.detection.box_predictor import BoxPredictor, mean_over_boxes
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig

NAMED = DetectorConfig(
    classes=("cat", "dog"),
    attributes=AttributeHeadConfig(words=("red", "blue"), groups=("colour", "colour"), class_dim=4, hidden=8),
    image_size=64,
    trunk=EfficientNetFpnConfig(strides=(16, 32), channels=8),
    head=MeanMlpHeadConfig(hidden=8, dim=8),
    anchor_sizes=(16, 32),
    proposals_before_nms=20,
    proposals=10,
    sampled_rois=8,
    roi_size=2,
    last_map="names",
)


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(NAMED)


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def test_without_more_channels_it_is_torchvisions() -> None:
    own, theirs = BoxPredictor(6, 6, 3), FastRCNNPredictor(6, 4)
    own.load_state_dict(theirs.state_dict())
    features = torch.randn(5, 6)
    for one, other in zip(own(features), theirs(features), strict=True):
        assert torch.equal(one, other)


def test_boxes_are_refined_by_the_learned_channels_alone() -> None:
    predictor = BoxPredictor(9, 6, 3)
    features = torch.randn(5, 9)
    changed = features.clone()
    changed[:, 6:] += 1.0
    (logits, offsets), (other_logits, other_offsets) = predictor(features), predictor(changed)
    assert torch.equal(offsets, other_offsets)
    assert not torch.isclose(logits, other_logits).any()


def test_a_map_is_averaged_over_four_samples_of_the_box() -> None:
    """On a map that is linear in x and y, the mean of samples is the value at the box's centre."""
    x = torch.arange(8.0).expand(8, 8)
    level = torch.stack([x, x.T, torch.ones(8, 8)])[None].expand(2, -1, -1, -1)
    boxes = [torch.tensor([[8.0, 16.0, 40.0, 48.0]]), torch.tensor([[16.0, 16.0, 32.0, 24.0], [20.0, 8.0, 44.0, 56.0]])]
    found = mean_over_boxes(level.contiguous(), boxes, (64, 64))
    for row, (x0, y0, x1, y1) in enumerate(torch.cat(boxes).tolist()):
        centre = torch.tensor([(x0 + x1) / 16 - 0.5, (y0 + y1) / 16 - 0.5, 1.0])
        torch.testing.assert_close(found[row], centre)


def test_regions_carry_the_last_map_behind_the_box_heads_output(detector: Detector) -> None:
    detector.eval()
    assert detector.region_dim == 8 + 8 + 1280
    maps = detector.trunk_features(pictures())
    pyramid = detector.pyramid(maps)
    boxes = torch.tensor([[[0.1, 0.2, 0.7, 0.9]], [[0.0, 0.0, 1.0, 1.0]]])
    valid = torch.ones(2, 1, dtype=torch.bool)
    features = detector.region_features(pyramid.levels, boxes, valid)
    wanted = mean_over_boxes(pyramid.pooled_map, list(boxes * 64), (64, 64))
    torch.testing.assert_close(features[:, 0, 16:], wanted)
    plain = Detector(replace(NAMED, last_map="none")).eval()
    shared = {k: v for k, v in detector.state_dict().items() if "cls_score" not in k and "attributes" not in k}
    plain.load_state_dict(shared, strict=False)
    learned = plain.region_features(plain.pyramid(maps).levels, boxes, valid)
    torch.testing.assert_close(features[..., :16], learned)


def test_it_is_detected_and_learned_with_it(detector: Detector) -> None:
    maps = detector.trunk_features(pictures())
    target = BoxTargets(
        boxes=torch.tensor([[0.1, 0.1, 0.6, 0.6], [0.4, 0.5, 1.0, 0.9]]),
        labels=torch.tensor([0, 1]),
        attributes=torch.tensor([[True, False], [False, True]]),
    )
    detector.train()
    losses = detector.losses(maps, [target, target])
    torch.stack(list(losses.values())).sum().backward()
    learning = {name for name, p in detector.named_parameters() if p.requires_grad}
    moved = {name for name, p in detector.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning == moved
    weight = detector.model.roi_heads.box_predictor.cls_score.weight
    assert weight.grad is not None
    assert weight.grad[:, 16:].abs().sum() > 0
    detector.eval()
    levels = detector.pyramid(maps).levels
    found = detector.detect(levels, slots=4, score_threshold=0.0, nms_threshold=0.9)
    assert found.valid.all()
    assert found.features.shape == (2, 4, detector.region_dim)
