from dataclasses import replace

import pytest
import torch

from regioncap.encoders.detection.box_heads import MeanMlpHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.small_trunk import SmallTrunkConfig

CONFIG = DetectorConfig(
    classes=("cat", "dog", "owl"),
    image_size=64,
    trunk=SmallTrunkConfig(channels=8, blocks=2),
    head=MeanMlpHeadConfig(hidden=20, dim=12),
    anchor_sizes=(12, 24),
    aspect_ratios=(0.5, 1.0, 2.0),
    proposals_before_nms=40,
    proposals=20,
    sampled_rois=16,
    roi_size=3,
)


def used_detector(config: DetectorConfig = CONFIG, seed: int = 0) -> Detector:
    """A detector whose batch norms have seen pictures, so that training and evaluation mode differ."""
    torch.manual_seed(seed)
    detector = config.build().train()
    for _ in range(3):
        detector.losses(detector.trunk_features(pictures(4, seed=seed)), [objects(1)] * 4)
    return detector.eval()


def pictures(n: int, seed: int = 1, size: int = 64) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def objects(n: int) -> BoxTargets:
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.4, 0.9, 0.8], [0.0, 0.6, 0.3, 1.0]])
    return BoxTargets(
        boxes=boxes[:n], labels=torch.tensor([0, 2, 1])[:n], attributes=torch.zeros(n, 0, dtype=torch.bool)
    )


def detect(detector: Detector, images: torch.Tensor, **options: float):
    options = {"slots": 16, "score_threshold": 0.1, "nms_threshold": 0.5} | options
    return detector.detect(maps_of(detector, images), **options)


def maps_of(detector: Detector, images: torch.Tensor):
    return detector.pyramid(detector.trunk_features(images)).levels


def test_losses_are_those_of_torchvision() -> None:
    detector = used_detector().train()
    images, targets = pictures(3), [objects(3), objects(1), objects(0)]
    torch.manual_seed(5)
    ours = detector.losses(detector.trunk_features(images), targets)
    torch.manual_seed(5)
    theirs = detector.model(list(images), [{"boxes": t.boxes * 64, "labels": t.labels + 1} for t in targets])
    assert ours.keys() == theirs.keys()
    for name in ours:
        # Rounding differs (memory layout), and now and then another proposal wins and is sampled.
        torch.testing.assert_close(ours[name], theirs[name], rtol=0.02, atol=1e-3)


def test_detections_of_one_class_are_those_of_torchvision() -> None:
    detector = used_detector(replace(CONFIG, classes=("thing",)))
    images = pictures(3)
    ours = detect(detector, images, slots=100, score_threshold=0.05)
    theirs = detector.model(list(images))
    assert ours.valid.sum() > 10
    for i, expected in enumerate(theirs):
        n = int(ours.valid[i].sum())
        torch.testing.assert_close(ours.boxes[i, :n] * 64, expected["boxes"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(ours.scores[i, :n], expected["scores"], rtol=1e-4, atol=1e-5)


def test_no_two_boxes_of_any_class_overlap_beyond_the_threshold() -> None:
    found = detect(used_detector(), pictures(2), nms_threshold=0.3)
    for boxes, valid in zip(found.boxes, found.valid, strict=True):
        kept = boxes[valid].tolist()
        assert len(kept) > 2
        for i, a in enumerate(kept):
            for b in kept[:i]:
                width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
                height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
                assert width * height <= 0.3 * union + 1e-5


def test_scores_fall_and_stay_above_the_threshold() -> None:
    found = detect(used_detector(), pictures(3), score_threshold=0.2)
    for scores, valid in zip(found.scores, found.valid, strict=True):
        assert (scores[valid] > 0.2).all()
        assert (scores[:-1] >= scores[1:]).all()
        assert (scores[~valid] == 0).all()


def test_region_features_do_not_depend_on_other_boxes_or_padding() -> None:
    detector = used_detector()
    maps = maps_of(detector, pictures(2))
    boxes = torch.tensor([[[0.1, 0.2, 0.6, 0.9], [0.0, 0.0, 0.5, 0.5]], [[0.3, 0.3, 0.8, 0.7], [0.0, 0.0, 0.0, 0.0]]])
    valid = torch.tensor([[True, True], [True, False]])
    together = detector.region_features(maps, boxes, valid)
    assert (together[1, 1] == 0).all()
    for i, j in ((0, 0), (0, 1), (1, 0)):
        own = {"0": maps["0"][i : i + 1]}
        alone = detector.region_features(own, boxes[i : i + 1, j : j + 1], valid[i : i + 1, j : j + 1])
        torch.testing.assert_close(together[i, j], alone[0, 0], rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient() -> None:
    detector = used_detector().train()
    torch.stack(list(detector.losses(detector.trunk_features(pictures(4)), [objects(3)] * 4).values())).sum().backward()
    idle = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("cat", "dog")},
        {"trunk": SmallTrunkConfig(channels=12, blocks=2)},
        {"trunk": SmallTrunkConfig(channels=8, blocks=1)},
        {"anchor_sizes": (16, 30)},
        {"aspect_ratios": (1.0,)},
        {"proposals_before_nms": 6},
        {"proposals": 5},
        {"roi_size": 2},
        {"head": MeanMlpHeadConfig(hidden=20, dim=10)},
        {"head": MeanMlpHeadConfig(hidden=16, dim=12)},
        {"proposal_channels": 10},
        {"roi_samples": 2},
    ],
)
def test_every_field_changes_what_is_found(change: dict[str, object]) -> None:
    images = pictures(2)
    plain = detect(used_detector(), images)
    other = detect(used_detector(replace(CONFIG, **change)), images)
    assert not torch.equal(plain.boxes, other.boxes)


def test_sampled_rois_change_the_losses() -> None:
    few = replace(CONFIG, sampled_rois=2).build().train()
    many = CONFIG.build().train()
    many.load_state_dict(few.state_dict())
    losses = []
    for detector in (few, many):
        torch.manual_seed(3)
        losses.append(detector.losses(detector.trunk_features(pictures(2)), [objects(3)] * 2)["loss_classifier"])
    assert not torch.equal(*losses)


def test_image_size_is_demanded() -> None:
    with pytest.raises(ValueError, match="multiples of 8 pixels, got 70x70"):
        used_detector().trunk_features(pictures(1, size=70))


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_finds_nearly_the_same_features() -> None:
    detector = used_detector()
    pixels = detector.trunk_features(pictures(2))
    exact, rounded = (detector.pyramid(pixels, precision).levels["0"] for precision in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": ()}, "classes"),
        ({"image_size": 0}, "image_size"),
        ({"positive_share": 1.0}, "positive_share"),
        ({"proposal_channels": 0}, "proposal_channels"),
        ({"roi_scale": 0}, "roi_scale"),
        ({"proposals": 0}, "proposals"),
        ({"anchor_sizes": ()}, "anchor_sizes"),
    ],
)
def test_bad_config_names_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=rf"detector\.{field}"):
        replace(CONFIG, **change)
