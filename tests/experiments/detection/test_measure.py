from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from regioncap.encoders import Detections, Detector
from regioncap.experiments.data.boxes import BoxData
from regioncap.experiments.detection import measure
from regioncap.experiments.detection.measure import SLOTS, measure_detector
from regioncap.experiments.detection.targets import box_targets, load_pixels
from regioncap.experiments.detection.training import TrainDetectorConfig, build_detector


@pytest.fixture
def boxes(job: TrainDetectorConfig) -> tuple[BoxData, BoxData]:
    return job.data.read()


@pytest.fixture
def detector(job: TrainDetectorConfig, boxes: tuple[BoxData, BoxData]) -> Detector:
    """Untrained, with spread scores, so that it finds many things."""
    detector = build_detector(job, boxes[0]).eval()
    with torch.no_grad():
        detector.model.roi_heads.box_predictor.cls_score.weight.mul_(60.0)
    return detector


def maps(detector: Detector, data: BoxData) -> list[dict[str, torch.Tensor]]:
    pixels = load_pixels(data, detector.config.image_size).float() / 255
    with torch.inference_mode():
        return [detector.trunk_features(part) for part in (pixels[:3], pixels[3:])]


def test_regions_are_those_of_the_detector(
    detector: Detector, boxes: tuple[BoxData, BoxData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call serves three settings: it must give what a call with each of them would give."""
    seen: list[list[Detections]] = []
    monkeypatch.setattr(measure, "recall", lambda found, data: (seen.append(found), (np.ones(1), np.ones(1)))[1])
    measure_detector(detector, iter(maps(detector, boxes[1])), boxes[1], boxes[0])
    for batch, found in zip(maps(detector, boxes[1]), seen[0], strict=True):
        levels = detector.pyramid(batch).levels
        wanted = detector.detect(levels, slots=36, score_threshold=0.0, nms_threshold=0.6)
        assert wanted.valid.sum() > 3
        for name in ("boxes", "scores", "labels", "valid"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name))


def test_every_class_of_a_box_counts_and_suppression_is_within_a_class(
    detector: Detector, boxes: tuple[BoxData, BoxData]
) -> None:
    levels = detector.pyramid(maps(detector, boxes[1])[0]).levels
    bare = detector.detect(levels, slots=20, score_threshold=0.0, nms_threshold=1.0)
    found = measure._every_class(detector, bare)
    with torch.no_grad():
        scores = F.softmax(detector.model.roi_heads.box_predictor.cls_score(bare.features), dim=-1)[..., 1:]
    for i in range(len(scores)):
        pairs = [
            (float(scores[i, slot, label]), slot, label)
            for slot in range(20)
            for label in range(2)
            if bare.valid[i, slot] and scores[i, slot, label] > 0.01
        ]
        kept: list[tuple[float, int, int]] = []
        for score, slot, label in sorted(pairs, reverse=True):
            rivals = [bare.boxes[i, s] for _, s, own in kept if own == label]
            if not rivals or box_iou(bare.boxes[i, slot][None], torch.stack(rivals)).max() <= 0.5:
                kept.append((score, slot, label))
        n = int(found.valid[i].sum())
        assert n == len(kept) <= SLOTS
        torch.testing.assert_close(found.scores[i, :n], torch.tensor([score for score, _, _ in kept]))
        assert found.labels[i, :n].tolist() == [label for _, _, label in kept]


def test_attributes_are_right_if_the_likeliest_of_the_group_was_said(boxes: tuple[BoxData, BoxData]) -> None:
    """Dev: 4 dark boxes said to be blue, 3 light ones said to be red (one says nothing); all of the 3 are big."""
    train, dev = boxes
    likely = torch.tensor([[0.1, 0.9, 0.0]]).expand(dev.count, 3)  # everything is blue
    found = dict(measure._attribute_accuracies(likely, dev, train))
    assert found["colour"].boxes == 7
    assert found["colour"].accuracy == pytest.approx(4 / 7)
    assert found["colour"].majority == 1.0  # train: dark is blue, light is red
    assert (found["size"].boxes, found["size"].accuracy, found["size"].majority) == (3, 1.0, 1.0)
    silent = replace(dev, images=tuple(replace(i, attributes=((),) * len(i.boxes)) for i in dev.images))
    assert dict(measure._attribute_accuracies(likely, silent, train)) == {}
    assert dict(measure._attribute_accuracies(likely, dev, silent))["colour"].majority == 0.0


def test_attributes_are_read_at_the_true_boxes_given_their_true_classes(
    detector: Detector, boxes: tuple[BoxData, BoxData]
) -> None:
    dev = boxes[1]
    some = replace(dev, images=(replace(dev.images[0], boxes=(), labels=(), attributes=()), *dev.images[1:3]))
    levels = detector.pyramid(maps(detector, dev)[0]).levels
    likely = measure._likely_attributes(detector, levels, box_targets(some))
    assert likely.shape == (4, 3)
    for row, (picture, own) in enumerate([(1, 0), (1, 1), (2, 0), (2, 1)]):
        target = box_targets(dev)[picture]
        one = {name: x[picture : picture + 1] for name, x in levels.items()}
        valid = torch.ones(1, 1, dtype=torch.bool)
        features = detector.region_features(one, target.boxes[own].view(1, 1, 4), valid)[0]
        with torch.no_grad():
            wanted = detector.attributes(features, target.labels[own : own + 1])[0]
        torch.testing.assert_close(likely[row], wanted)


def test_scores_are_plain_json_and_types_are_means_of_their_classes(
    detector: Detector, boxes: tuple[BoxData, BoxData]
) -> None:
    scores = measure_detector(detector, iter(maps(detector, boxes[1])), boxes[1], boxes[0])
    assert scores.ap50_of_type["things"] == pytest.approx(scores.ap50)
    assert set(scores.ap50_of_class) == {"dark", "light"}
    assert 0 <= scores.named <= scores.recall <= 1
    assert scores.as_json()["ap50"] == round(scores.ap50, 4)
    with pytest.raises(AssertionError, match="3 pictures came for 4"):
        measure_detector(detector, iter(maps(detector, boxes[1])[:1]), boxes[1], boxes[0])
