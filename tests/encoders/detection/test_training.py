import os
import signal
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from regioncap.encoders.detection.attributes import AttributeHeadConfig
from regioncap.encoders.detection.box_heads import MeanMlpHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets, mirror
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.examples import PixelExamples
from regioncap.encoders.detection.small_trunk import SmallTrunkConfig
from regioncap.encoders.detection.training import DetectorTraining, DetectorTrainingConfig, train_detector

DETECTOR = DetectorConfig(
    classes=("dark", "light"),
    image_size=64,
    trunk=SmallTrunkConfig(channels=16, blocks=1),
    head=MeanMlpHeadConfig(dim=16),
    anchor_sizes=(16, 24),
    aspect_ratios=(1.0,),
    proposals_before_nms=30,
    proposals=20,
    sampled_rois=16,
    roi_size=3,
)
CONFIG = DetectorTrainingConfig(steps=2, batch_size=2, learning_rate=1e-2)


def squares(n: int, seed: int = 0) -> tuple[torch.Tensor, list[BoxTargets]]:
    """Grey pictures with one dark square on the left half and one light square on the right."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((n, 3, 64, 64), 128, dtype=torch.uint8)
    targets = []
    for i in range(n):
        corners = torch.randint(0, 12, (4,), generator=generator).tolist()
        sides = torch.randint(14, 20, (2,), generator=generator).tolist()
        boxes = [
            [corners[0], corners[1] * 4, corners[0] + sides[0], corners[1] * 4 + sides[0]],
            [32 + corners[2], corners[3] * 4, 32 + corners[2] + sides[1], corners[3] * 4 + sides[1]],
        ]
        for (x0, y0, x1, y1), value in zip(boxes, (20, 240), strict=True):
            images[i, :, y0:y1, x0:x1] = value
        nothing = torch.zeros(2, 0, dtype=torch.bool)
        targets.append(BoxTargets(boxes=torch.tensor(boxes) / 64, labels=torch.tensor([0, 1]), attributes=nothing))
    return images, targets


def fresh(seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return DETECTOR.build()


def trained(config: DetectorTrainingConfig) -> tuple[Detector, list[float]]:
    detector = fresh()
    totals: list[float] = []
    images, targets = squares(6)
    train_detector(detector, images, targets, config, lambda _, losses: totals.append(sum(losses.values())))
    return detector, totals


def test_it_learns_to_find_and_name_squares() -> None:
    images, targets = squares(32)
    detector = fresh()
    train_detector(detector, images, targets, replace(CONFIG, steps=120, batch_size=8), lambda *_: None)
    assert not detector.training
    unseen, expected = squares(8, seed=9)
    maps = detector.pyramid(detector.trunk_features(unseen.float() / 255)).levels
    found = detector.detect(maps, slots=2, score_threshold=0.3, nms_threshold=0.5)
    hits = 0
    for i, target in enumerate(expected):
        for box, label in zip(target.boxes, target.labels, strict=True):
            near = (found.boxes[i] - box).abs().amax(-1) < 0.1
            hits += int((near & (found.labels[i] == label) & found.valid[i]).any())
    assert hits >= 13  # of 16


def test_training_repeats_exactly_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    images, targets = squares(6)
    detectors = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            detector = fresh()
        train_detector(detector, images, targets, CONFIG, lambda *_: None)
        detectors.append(detector)
    assert torch.equal(torch.rand(1), expected)
    first, second = (detector.state_dict() for detector in detectors)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    "change",
    [
        {"steps": 3},
        {"batch_size": 3},
        {"learning_rate": 2e-2},
        {"weight_decay": 0.5},
        {"flip": 0.0},
        {"gradient_norm": 1e-3},
        {"precision": "float32"},
        {"seed": 1},
    ],
)
def test_every_field_changes_the_training(change: dict[str, object]) -> None:
    plain, _ = trained(replace(CONFIG, flip=1.0))
    other, _ = trained(replace(CONFIG, **({"flip": 1.0} | change)))
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))


def test_progress_is_reported_each_step() -> None:
    _, totals = trained(replace(CONFIG, steps=4))
    assert len(totals) == 4
    assert all(total > 0 for total in totals)


def test_mirrored_boxes_follow_the_mirrored_picture() -> None:
    images, targets = squares(1)
    flipped = images.flip(-1)
    for box, label in zip(mirror(targets[0]).boxes, mirror(targets[0]).labels, strict=True):
        x0, y0, x1, y1 = (box * 64).round().int().tolist()
        inside = flipped[0, :, y0:y1, x0:x1]
        assert (inside == (20, 240)[int(label)]).all()


def test_a_killed_training_goes_on_bit_for_bit(tmp_path) -> None:
    """From every step of the run, with pictures left over in an epoch and not."""
    config = replace(CONFIG, steps=5)
    images, targets = squares(5)
    whole = fresh()
    train_detector(whole, images, targets, config, lambda *_: None)
    for stop in range(1, 5):
        interrupted = DetectorTraining(fresh(), PixelExamples(images, targets), config)

        def killed(step: int, _: object, stop: int = stop) -> None:
            if step + 1 == stop:
                raise KeyboardInterrupt

        file = tmp_path / f"{stop}.pt"
        with pytest.raises(KeyboardInterrupt):
            interrupted.run(killed, checkpoint=file, checkpoint_every=1)
        resumed = DetectorTraining(fresh(seed=7), PixelExamples(images, targets), config)
        assert resumed.resume(file)
        assert resumed.step == stop
        resumed.run(lambda *_: None, checkpoint=file)
        expected, got = whole.state_dict(), resumed.detector.state_dict()
        assert all(torch.equal(expected[name], got[name]) for name in expected)
        done = DetectorTraining(fresh(seed=8), PixelExamples(images, targets), config)
        assert done.resume(file)
        done.run(lambda *_: pytest.fail("a finished training takes no step"))
        assert all(torch.equal(expected[name], x) for name, x in done.detector.state_dict().items())


def test_a_state_that_is_missing_broken_or_foreign(tmp_path) -> None:
    images, targets = squares(4)
    training = DetectorTraining(fresh(), PixelExamples(images, targets), CONFIG)
    assert not training.resume(tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"cut\.pt is no state"):
        training.resume(tmp_path / "cut.pt")
    training.save(tmp_path / "state.pt")
    assert not list(tmp_path.glob("*.part"))
    others = (
        DetectorTraining(fresh(), PixelExamples(images, targets), replace(CONFIG, steps=9)),
        DetectorTraining(fresh(), PixelExamples(*squares(3)), CONFIG),
        DetectorTraining(replace(DETECTOR, roi_size=2).build(), PixelExamples(images, targets), CONFIG),
    )
    for other in others:
        with pytest.raises(ValueError, match="another detector, config or data set"):
            other.resume(tmp_path / "state.pt")


def test_kill_nine_leaves_a_valid_state(tmp_path) -> None:
    """A process that saves without pause is killed at odd moments; what is there loads and goes on every time."""
    file, steps = tmp_path / "state.pt", [0]
    for wait in (0.0, 0.03, 0.011, 0.047, 0.02):
        child = os.fork()
        if child == 0:
            training = DetectorTraining(fresh(), PixelExamples(*squares(2)), replace(CONFIG, steps=10**6))
            training.resume(file)
            training.run(lambda *_: None, checkpoint=file, checkpoint_every=1)
            os._exit(1)
        before = file.stat().st_mtime_ns if file.exists() else 0
        while not file.exists() or file.stat().st_mtime_ns == before:
            time.sleep(0.002)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        steps.append(torch.load(file, weights_only=True)["step"])
    assert all(earlier < later for earlier, later in pairwise(steps))


def test_frozen_parts_stay_and_a_pre_trained_body_learns_slower() -> None:
    torch.manual_seed(0)
    trunk = EfficientNetFpnConfig(trainable_blocks=2, channels=8)
    config = replace(DETECTOR, trunk=trunk, anchor_sizes=(16, 24, 40), roi_scale=80)
    detector = config.build()
    before = {name: p.clone() for name, p in detector.named_parameters()}
    images, targets = squares(4)
    training = DetectorTraining(detector, PixelExamples(images, targets), replace(CONFIG, body_share=0.25))
    rates = {id(p): group["lr"] for group in training.optimizer.param_groups for p in group["params"]}
    blocks = detector.trunk.body.blocks
    assert rates[id(blocks[15].project.weight)] == pytest.approx(
        0.25 * rates[id(detector.trunk.lateral["8"][0].weight)]
    )
    training.run(lambda *_: None)
    for name, parameter in detector.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
    assert blocks[13].project.weight.requires_grad is False
    assert blocks[14].project.weight.requires_grad is True


def test_attributes_learn_by_their_weight() -> None:
    images, targets = squares(8)
    # Dark squares are "night", light ones "day".
    targets = [replace(target, attributes=torch.eye(2, dtype=torch.bool)) for target in targets]
    words = AttributeHeadConfig(words=("night", "day"), groups=("light", "light"), hidden=8)
    losses = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        detector = replace(DETECTOR, attributes=words).build()
        seen: list[float] = []
        config = replace(CONFIG, steps=30, batch_size=4, attribute_weight=weight)
        train_detector(detector, images, targets, config, lambda _, x, seen=seen: seen.append(x["loss_attributes"]))
        losses.append(sum(seen[-5:]) / 5)
    assert losses[1] < 0.1 < 0.5 * losses[0]


def test_pictures_without_boxes_or_batch_are_refused() -> None:
    images, targets = squares(4)
    with pytest.raises(ValueError, match="4 pictures and 3 targets"):
        train_detector(fresh(), images, targets[:3], CONFIG, lambda *_: None)
    with pytest.raises(ValueError, match="a batch takes 5"):
        train_detector(fresh(), images, targets, replace(CONFIG, batch_size=5), lambda *_: None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"flip": 1.5}, "flip"),
    ],
)
def test_bad_config_names_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=rf"detector_training\.{field}"):
        replace(CONFIG, **change)
