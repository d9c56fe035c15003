"""SPICE's parts, which not every image has."""

import numpy as np
import pytest

from regioncap.experiments.metrics import Scores
from regioncap.experiments.scoring.spice_parts import measure_parts
from regioncap.experiments.statistics import paired_bootstrap

IMAGES = [f"{index}.jpg" for index in range(40)]


def scores(seed: int, parts: dict[str, int], gain: float = 0.0) -> Scores:
    """Parts with the number of images that have them."""
    generator = np.random.default_rng(seed)
    columns = {part: gain + generator.random(count) for part, count in parts.items()}
    each = {
        image: {part: float(values[index]) for part, values in columns.items() if index < len(values)}
        for index, image in enumerate(IMAGES)
    }
    return Scores(
        corpus={},
        per_image={},
        missing={},
        spice_parts={part: float(np.mean(values)) for part, values in columns.items()},
        spice_parts_per_image=each,
    )


def test_part_that_all_images_have_is_measured_as_any_metric():
    systems = [scores(seed, {"Object": 40}, gain=0.1 * seed) for seed in (0, 1)]
    old, new = measure_parts(systems, IMAGES, baseline=0, samples=500, seed=3)["Object"]
    per_image = [{image: parts["Object"] for image, parts in one.spice_parts_per_image.items()} for one in systems]
    assert old.p is None
    assert new.p == paired_bootstrap([per_image[1]], [per_image[0]], samples=500, seed=3)
    for one, cell in zip(systems, (old, new), strict=True):
        assert cell.low < cell.value == one.spice_parts["Object"] < cell.high


def test_images_without_a_part_do_not_count():
    one = scores(0, {"Color": 30})
    (few,) = measure_parts([one], IMAGES, baseline=0, samples=3000, seed=0)["Color"]
    (alone,) = measure_parts([one], IMAGES[:30], baseline=0, samples=3000, seed=0)["Color"]
    assert (few.low, few.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert few.value == alone.value


def test_part_of_a_single_image_has_an_interval_of_a_point():
    one = scores(0, {"Size": 1})
    (cell,) = measure_parts([one], IMAGES, baseline=0, samples=50, seed=0)["Size"]
    assert cell.low == pytest.approx(cell.value)
    assert cell.high == pytest.approx(cell.value)


def test_order_of_parts_and_those_that_are_not_there():
    one = scores(0, {"Count": 3, "Object": 40})
    assert list(measure_parts([one], IMAGES, baseline=0, samples=10, seed=0)) == ["Object", "Count"]
    assert measure_parts([scores(0, {})], IMAGES, baseline=0, samples=10, seed=0) == {}
