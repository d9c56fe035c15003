from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.encoders import Detections
from regioncap.experiments.data.boxes import BoxData, BoxedImage
from regioncap.experiments.detection import (
    average_precision_50,
    box_targets,
    class_average_precision,
    load_pixels,
    mean_by_type,
    recall,
)

PIXELS = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)


def boxed(boxes: tuple, labels: tuple, path: Path = Path("x.png")) -> BoxedImage:
    return BoxedImage(
        name="x", path=path, width=100, height=50, boxes=boxes, labels=labels, attributes=((),) * len(boxes)
    )


DATA = BoxData(
    classes=("cat", "dog"),
    images=(
        boxed(((10.0, 10.0, 30.0, 30.0), (50.0, 10.0, 80.0, 40.0)), (0, 1)),
        boxed(((0.0, 0.0, 40.0, 20.0),), (0,)),
        boxed(((20.0, 5.0, 60.0, 45.0), (70.0, 5.0, 95.0, 30.0)), (0, 0)),
    ),
)


def detections(rows: list[list[tuple[tuple[float, ...], float, int]]], slots: int = 4) -> Detections:
    """Per picture (box in pixels, score, class)."""
    boxes, scores = torch.zeros(len(rows), slots, 4), torch.zeros(len(rows), slots)
    labels, valid = torch.zeros(len(rows), slots, dtype=torch.long), torch.zeros(len(rows), slots, dtype=torch.bool)
    for i, own in enumerate(rows):
        for j, (box, score, label) in enumerate(own):
            boxes[i, j] = torch.tensor(box) / torch.tensor([100.0, 50.0, 100.0, 50.0])
            scores[i, j], labels[i, j], valid[i, j] = score, label, True
    features = torch.zeros(len(rows), slots, 0)
    return Detections(boxes=boxes, scores=scores, labels=labels, valid=valid, features=features)


def test_targets_are_fractions_of_each_picture() -> None:
    target = box_targets(DATA)[0]
    torch.testing.assert_close(target.boxes, torch.tensor([[0.1, 0.2, 0.3, 0.6], [0.5, 0.2, 0.8, 0.8]]))
    assert target.labels.tolist() == [0, 1]


def test_pixels_are_those_of_the_files(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png")
    pixels = load_pixels(BoxData(classes=("cat",), images=(boxed((), (), tmp_path / "a.png"),)), 8)
    assert pixels[0, :, 3, 3].tolist() == [10, 20, 30]
    assert box_targets(BoxData(classes=("cat",), images=(boxed((), ()),)))[0].boxes.shape == (0, 4)


def test_the_truth_scores_one_and_nothing_scores_zero() -> None:
    truth = [[(box, 0.9, label) for box, label in zip(image.boxes, image.labels, strict=True)] for image in DATA.images]
    assert average_precision_50(lambda _: detections(truth), DATA, PIXELS) == pytest.approx(1.0)
    assert average_precision_50(lambda _: detections([[], [], []]), DATA, PIXELS) == 0.0


def test_wrong_classes_and_late_hits_cost_what_the_definition_says() -> None:
    """Cats by falling score: hit, miss, hit, hit of 4; the dog is called a cat, so dogs score 0."""
    cats = [
        [((10.0, 10.0, 30.0, 30.0), 0.9, 0), ((50.0, 10.0, 80.0, 40.0), 0.8, 0)],
        [((0.0, 0.0, 38.0, 20.0), 0.7, 0)],
        [((20.0, 5.0, 60.0, 40.0), 0.6, 0)],
    ]
    precision = {0.25: 1.0, 0.5: 3 / 4, 0.75: 3 / 4}  # at that recall or beyond, the best precision
    grid = [i / 100 for i in range(101)]
    expected = sum(next((p for r, p in precision.items() if recall <= r), 0.0) for recall in grid) / 101
    found = average_precision_50(lambda _: detections(cats), DATA, PIXELS)
    assert found == pytest.approx(expected / 2, abs=1e-6)


def test_batches_may_have_any_size() -> None:
    truth = [[(box, 0.9, label) for box, label in zip(image.boxes, image.labels, strict=True)] for image in DATA.images]
    halves = (detections(truth[:1]), detections(truth[1:]))
    assert class_average_precision(halves, DATA) == pytest.approx([1.0, 1.0])
    assert all(each.all() for each in recall(halves, DATA))


def test_a_class_without_a_true_box_counts_nowhere() -> None:
    data = replace(DATA, classes=("cat", "dog", "cow"), types=("pet", "pet", "farm"))
    wrong = [[((0.0, 0.0, 40.0, 20.0), 0.5, 2)], [], []]
    per_class = class_average_precision([detections(wrong)], data)
    assert per_class[:2] == pytest.approx([0.0, 0.0])
    assert np.isnan(per_class[2])
    assert mean_by_type(np.array([0.2, 0.6, np.nan]), data, ("pet", "farm")) == {"pet": pytest.approx(0.4)}
    assert np.isnan(class_average_precision([detections([[], [], []])], data)[2])


def test_recall_asks_for_the_box_and_then_for_its_class() -> None:
    found = [
        [((10.0, 10.0, 30.0, 30.0), 0.9, 1), ((50.0, 10.0, 80.0, 40.0), 0.8, 1)],  # the cat is called a dog
        [],
        [((20.0, 5.0, 60.0, 40.0), 0.6, 0), ((70.0, 5.0, 80.0, 30.0), 0.6, 0)],  # the second covers too little
    ]
    hits, named = recall([detections(found)], DATA)
    assert hits.tolist() == [True, True, False, True, False]
    assert named.tolist() == [False, True, False, True, False]
