"""Every detector of the family does everything, as the scenes one does in test_detector.py."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, roi_align

from regioncap.encoders.detection.attributes import AttributeHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.faster_rcnn import FasterRcnnEncoder, FasterRcnnEncoderConfig
from regioncap.encoders.detection.presets import efficientnet_fpn, resnet50_c4, resnet50_fpn

CLASSES = ("dog", "orange", "man")
WORDS = AttributeHeadConfig(
    words=("red", "orange", "big", "small"), groups=("colour", "colour", "size", "size"), class_dim=4, hidden=16
)
PRESETS = (efficientnet_fpn, resnet50_c4, resnet50_fpn)


def small(preset) -> DetectorConfig:
    return replace(preset(CLASSES, WORDS), image_size=96, proposals=30, proposals_before_nms=60)


def pictures(n: int, size: int = 96, seed: int = 1) -> torch.Tensor:
    coarse = torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=size)


def objects(n: int) -> BoxTargets:
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.2, 0.2, 0.9, 0.9]])[:n]
    said = torch.tensor([[True, False, False, True], [False, False, False, False]])[:n]
    return BoxTargets(boxes=boxes, labels=torch.tensor([0, 2])[:n], attributes=said)


@pytest.fixture(scope="module", params=PRESETS, ids=lambda preset: preset.__name__)
def detector(request: pytest.FixtureRequest) -> Detector:
    torch.manual_seed(0)
    made = small(request.param).build()
    predictor = made.model.roi_heads.box_predictor
    with torch.no_grad():
        predictor.cls_score.weight.mul_(0.2 / predictor.cls_score.weight.std() / made.region_dim**0.5)
    return made.eval()


@pytest.fixture(scope="module")
def encoder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> FasterRcnnEncoder:
    folder = tmp_path_factory.mktemp("detector")
    detector.save(folder)
    return FasterRcnnEncoderConfig(
        weights=folder, regions=8, score_threshold=0.05, attribute_threshold=0.1, pool_cells=1, precision="float32"
    ).build()


def test_everything_that_learns_gets_a_gradient_and_nothing_else(detector: Detector) -> None:
    detector.train()
    targets = [objects(2), objects(1), objects(0)]
    losses = detector.losses(detector.trunk_features(pictures(3)), targets)
    assert losses.keys() == {
        "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_attributes"
    }  # fmt: skip
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            # Of the class embedding only the classes that occur have one.
            assert parameter.grad.abs().sum() > 0, name
        parameter.grad = None
    detector.eval()


def test_shapes_and_words_agree(encoder: FasterRcnnEncoder, detector: Detector) -> None:
    out = encoder(pictures(3))
    assert out.pooled.shape == (3, encoder.pooled_dim)
    assert out.regions.features.shape == (3, 8, encoder.region_dim) == (3, 8, detector.region_dim)
    assert encoder.words == ("dog", "orange", "man", "red", "big", "small")  # orange once
    assert out.regions.words.shape == (3, 8, encoder.words_per_region) == (3, 8, 3)
    assert out.regions.valid.any(1).all()


def test_attributes_are_the_likeliest_of_the_head(encoder: FasterRcnnEncoder) -> None:
    regions, found = encoder(pictures(3)).regions, encoder.detect(pictures(3))
    assert found.valid.sum() > 3
    named = 0
    for image, slot in found.valid.nonzero().tolist():
        features, label = found.features[image, slot][None], found.labels[image, slot][None]
        likely = dict(zip(WORDS.words, encoder.detector.attributes(features, label)[0].tolist(), strict=True))
        expected = [(w, p) for w, p in sorted(likely.items(), key=lambda pair: -pair[1])[:2] if p > 0.1]
        got = [
            (encoder.words[word], score)
            for word, score in zip(
                regions.words[image, slot, 1:].tolist(), regions.word_scores[image, slot, 1:].tolist(), strict=True
            )
            if word >= 0
        ]
        assert [word for word, _ in got] == [word for word, _ in expected]
        assert [score for _, score in got] == pytest.approx([p for _, p in expected], abs=1e-4)
        named += len(got)
    assert named > 0
    assert (regions.words[~found.valid] == -1).all()
    assert (regions.word_scores[regions.words < 0] == 0).all()


def test_padding_is_zero_and_batch_mates_change_nothing(encoder: FasterRcnnEncoder) -> None:
    images = pictures(3)
    together = encoder(images).regions
    for name in ("features", "boxes", "scores"):
        assert (getattr(together, name)[~together.valid] == 0).all()
    for i in range(3):
        alone = encoder(images[i : i + 1]).regions
        for name in ("features", "boxes", "scores", "valid", "words", "word_scores"):
            whole = getattr(together, name)[i : i + 1]
            # A box moves by a rounding error, and features of random weights run to tens.
            torch.testing.assert_close(whole, getattr(alone, name), rtol=1e-2, atol=1e-2)


def changed(encoder: FasterRcnnEncoder, **change: object) -> FasterRcnnEncoder:
    """The same weights in another encoder: to load ResNets again for every test would take most of its time."""
    other = copy.copy(encoder)
    other.config = replace(encoder.config, **change)
    return other


def test_picture_without_detection_is_one_region(encoder: FasterRcnnEncoder) -> None:
    for features_of in ("box", "proposal"):
        regions = changed(encoder, score_threshold=1.0, features_of=features_of)(pictures(2)).regions
        assert regions.valid.tolist() == [[True] + [False] * 7] * 2
        assert regions.boxes[:, 0].tolist() == [[0, 0, 1, 1]] * 2
        assert (regions.words == -1).all()
        assert (regions.features[:, 0].abs().sum(-1) > 0).all()


def test_features_are_of_the_proposal_where_asked(encoder: FasterRcnnEncoder) -> None:
    other = changed(encoder, features_of="proposal")
    regions, found = other(pictures(2)).regions, other.detect(pictures(2))
    assert torch.equal(regions.features[found.valid], found.features[found.valid])
    assert not torch.equal(regions.features, encoder(pictures(2)).regions.features)


def test_fewer_proposals_are_the_best_ones(encoder: FasterRcnnEncoder) -> None:
    few = changed(encoder, proposals=2)
    assert (few(pictures(3)).regions.valid.sum(1) <= 2).all()
    few_found = few.detect(pictures(3))
    network = encoder.detector.model.rpn
    limits, network._post_nms_top_n = network._post_nms_top_n, {"training": 2, "testing": 2}
    expected = encoder.detect(pictures(3))
    network._post_nms_top_n = limits
    torch.testing.assert_close(few_found.boxes, expected.boxes)
    assert not torch.equal(few_found.boxes, encoder.detect(pictures(3)).boxes)


@pytest.mark.parametrize("size", [64, 128])
def test_other_picture_sizes(encoder: FasterRcnnEncoder, size: int) -> None:
    other = changed(encoder, image_size=size)
    assert other.image_size == size
    regions = other(pictures(1, size)).regions
    assert ((regions.boxes >= 0) & (regions.boxes <= 1)).all()
    with pytest.raises(ValueError, match=f"{size}x{size} pixels, got 96x96"):
        other(pictures(1))


def test_picture_size_must_fit_the_trunk(tmp_path: Path) -> None:
    small(efficientnet_fpn).build().save(tmp_path)
    with pytest.raises(ValueError, match=r"encoder\.image_size must be a multiple of 32, got 100"):
        FasterRcnnEncoderConfig(weights=tmp_path, image_size=100).build()


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"head_precision": "bfloat16"}])
def test_bfloat16_is_near(encoder: FasterRcnnEncoder, change: dict[str, str]) -> None:
    """On the whole picture: among boxes of an untrained detector, rounding chooses others."""
    options = {"score_threshold": 1.0, **change}
    exact = changed(encoder, score_threshold=1.0)(pictures(2)).regions.features[:, 0]
    rounded = changed(encoder, **options)(pictures(2)).regions.features[:, 0]
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert F.cosine_similarity(exact, rounded).min() > 0.999


def test_c4_is_the_plain_assembly() -> None:
    """Proposals, RoIAlign, layer4, predictor, one step after the other for a single picture."""
    torch.manual_seed(0)
    detector = small(resnet50_c4).build().eval()
    model = detector.model
    images = pictures(1)
    found = detector.detect(
        detector.pyramid(detector.trunk_features(images)).levels, slots=6, score_threshold=0.0, nms_threshold=0.5
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
        x = model.backbone.body[name](x)
    (proposals,), _ = model.rpn(ImageList(images, [(96, 96)]), {"0": x})
    features = model.roi_heads.box_head.layer4(roi_align(x, [proposals], 7, 1 / 16, 2)).mean((2, 3))
    predictor = model.roi_heads.box_predictor
    scores, labels = predictor.cls_score(features).softmax(-1)[:, 1:].max(-1)
    offsets = predictor.bbox_pred(features).view(len(features), -1, 4)[torch.arange(len(features)), labels + 1]
    width, height = (proposals[:, 2:] - proposals[:, :2]).unbind(1)
    dx, dy, dw, dh = (offsets / torch.tensor([10.0, 10.0, 5.0, 5.0])).unbind(1)
    cx, cy = proposals[:, 0] + width / 2 + dx * width, proposals[:, 1] + height / 2 + dy * height
    w, h = width * dw.clamp(max=4.135).exp(), height * dh.clamp(max=4.135).exp()
    boxes = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1).clamp(0, 96)
    wide = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1).nonzero()[:, 0]
    rows = wide[batched_nms(boxes[wide], scores[wide], torch.zeros(len(wide)), 0.5)][:6]
    n = int(found.valid.sum())
    assert n == len(rows) > 0
    torch.testing.assert_close(found.boxes[0, :n] * 96, boxes[rows], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(found.scores[0, :n], scores[rows], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.features[0, :n], features[rows], rtol=1e-3, atol=1e-3)


def test_anchors_must_fit_the_levels() -> None:
    with pytest.raises(ValueError, match=r"detector\.anchor_sizes must give the same number to each.*3 levels, got 4"):
        replace(efficientnet_fpn(CLASSES), anchor_sizes=(8, 16, 32, 64)).build()
    with pytest.raises(ValueError, match=r"detector\.image_size must be a multiple of 32"):
        replace(efficientnet_fpn(CLASSES), image_size=200).build()


def test_a_preset_takes_its_trunk() -> None:
    trunk = EfficientNetFpnConfig(channels=64, trainable_blocks=1)
    assert efficientnet_fpn(CLASSES, trunk=trunk).trunk == trunk
