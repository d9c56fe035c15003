import pytest
import torch

from regioncap.encoders.detection.box_heads import MeanMlpHeadConfig
from regioncap.encoders.detection.boxes import BoxTargets
from regioncap.encoders.detection.detector import Detector, DetectorConfig
from regioncap.encoders.detection.small_trunk import SmallTrunkConfig


@pytest.fixture(scope="session")
def small_detector() -> Detector:
    """A detector that has learned nothing but whose batch norms have seen pictures. Not to be changed."""
    torch.manual_seed(0)
    config = DetectorConfig(
        classes=("cat", "dog", "owl"),
        image_size=64,
        trunk=SmallTrunkConfig(channels=8, blocks=2),
        head=MeanMlpHeadConfig(hidden=20, dim=12),
        anchor_sizes=(12, 24),
        proposals_before_nms=40,
        proposals=20,
        roi_size=3,
    )
    detector = config.build().train()
    nothing = torch.zeros(1, 0, dtype=torch.bool)
    target = BoxTargets(boxes=torch.tensor([[0.1, 0.1, 0.4, 0.5]]), labels=torch.tensor([1]), attributes=nothing)
    for _ in range(3):
        detector.losses(detector.trunk_features(torch.rand(4, 3, 64, 64)), [target] * 4)
    return detector.eval()
