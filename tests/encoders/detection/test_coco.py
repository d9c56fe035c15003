from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, fasterrcnn_resnet50_fpn
from torchvision.ops import batched_nms, box_iou

from regioncap.encoders.detection.coco import load_coco_detector
from regioncap.encoders.detection.faster_rcnn import FasterRcnnEncoderConfig
from regioncap.encoders.detection.stored import load_detector

SIZE = 128


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """torchvision's own model with the statistics of its COCO weights: frozen normalisations, no epsilon."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=SIZE, max_size=SIZE, box_score_thresh=0.0, box_nms_thresh=1.0
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(1.0, 2.0)
    # Random last layers score all boxes alike: wider apart, they differ.
    model.roi_heads.box_predictor.cls_score.weight.data.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def file(theirs: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchvision") / "fasterrcnn.pth"
    torch.save(theirs.state_dict(), path)
    return path


def pictures(n: int) -> torch.Tensor:
    coarse = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=SIZE)


def test_boxes_scores_and_features_are_those_of_torchvision(theirs: torch.nn.Module, file: Path) -> None:
    """Ours keeps one class a box and suppresses across classes: torchvision's raw outputs, so selected, agree."""
    images = pictures(2)
    detector = load_coco_detector(str(file))
    levels = detector.pyramid(detector.trunk_features(images)).levels
    found = detector.detect(levels, slots=20, score_threshold=0.02, nms_threshold=0.5)
    inputs, _ = theirs.transform(list(images))
    maps = theirs.backbone(inputs.tensors)
    for name in maps:
        torch.testing.assert_close(levels[name], maps[name], rtol=1e-3, atol=1e-4)
    proposals, _ = theirs.rpn(inputs, maps)
    heads = theirs.roi_heads
    for i in range(2):
        own = {name: level[i : i + 1] for name, level in maps.items()}
        features = heads.box_head(heads.box_roi_pool(own, [proposals[i]], [(SIZE, SIZE)]))
        logits, offsets = heads.box_predictor(features)
        scores, labels = logits.softmax(-1)[:, 1:].max(-1)
        boxes = heads.box_coder.decode(offsets, [proposals[i]])[torch.arange(len(labels)), labels + 1].clamp(0, SIZE)
        enough = (scores > 0.02) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(-1)
        rows = enough.nonzero()[:, 0]
        rows = rows[batched_nms(boxes[rows], scores[rows], torch.zeros(len(rows)), 0.5)][:20]
        assert len(rows) > 3
        n = int(found.valid[i].sum())
        assert n == len(rows)
        torch.testing.assert_close(found.boxes[i, :n] * SIZE, boxes[rows], rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(found.scores[i, :n], scores[rows], rtol=1e-3, atol=1e-4)
        assert torch.equal(found.labels[i, :n], labels[rows])
        torch.testing.assert_close(found.features[i, :n], features[rows], rtol=1e-3, atol=1e-3)


def test_every_box_is_one_that_torchvisions_own_forward_returns(theirs: torch.nn.Module, file: Path) -> None:
    images = pictures(1)
    detector = load_coco_detector(str(file))
    levels = detector.pyramid(detector.trunk_features(images)).levels
    found = detector.detect(levels, slots=5, score_threshold=0.02, nms_threshold=0.5)
    theirs.roi_heads.detections_per_img = 100_000
    (expected,) = theirs(list(images))
    for box, label, score in zip(found.boxes[0] * SIZE, found.labels[0] + 1, found.scores[0], strict=True):
        same = expected["labels"] == label
        overlap = box_iou(box[None], expected["boxes"][same])[0]
        best = int(overlap.argmax())
        assert overlap[best] > 0.999
        torch.testing.assert_close(expected["scores"][same][best], score, rtol=1e-3, atol=1e-4)


def test_file_as_safetensors_and_words(theirs: torch.nn.Module, file: Path, tmp_path: Path) -> None:
    save_file(theirs.state_dict(), tmp_path / "fasterrcnn.safetensors")
    a, b = load_detector(file), load_detector(tmp_path / "fasterrcnn.safetensors")
    assert all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())
    encoder = FasterRcnnEncoderConfig(weights=file, image_size=SIZE, regions=4, score_threshold=0.0).build()
    assert (encoder.region_dim, encoder.pooled_dim, len(encoder.classes)) == (1024, 2048 * 16, 90)
    assert encoder.words[:3] == ("person", "bicycle", "car")
    assert len(encoder.words) == len(set(encoder.words)) == 80
    assert "N/A" not in encoder.words
    regions = encoder(pictures(1)).regions
    label, word = encoder.detect(pictures(1)).labels[0, 0], regions.words[0, 0, 0]
    name = encoder.classes[label]
    assert word == (-1 if name == "N/A" else encoder.words.index(name))


def test_name_without_network_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.url
    with pytest.raises(ValueError, match="no network") as raised:
        load_detector(Path("COCO_V1"))
    assert f"download {url} elsewhere and put it at {tmp_path}" in str(raised.value)
    assert str(raised.value).endswith(Path(url).name)
    assert "\n" not in str(raised.value)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is no fasterrcnn_resnet50_fpn"):
        load_detector(tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds no state dict"):
        load_detector(tmp_path / "list.pth")
    (tmp_path / "cut.pth").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"cut\.pth is no torchvision weights file"):
        load_detector(tmp_path / "cut.pth")
