import torch
import torch.nn.functional as F
from torch import nn

from regioncap.encoders.detection.batch_norm import fold_batch_norm
from regioncap.encoders.detection.small_trunk import STRIDE, SmallTrunk, SmallTrunkConfig


def used_trunk() -> SmallTrunk:
    """Batch norms with statistics and scales of their own."""
    torch.manual_seed(0)
    trunk = SmallTrunk(SmallTrunkConfig(channels=16, blocks=2)).train()
    for _ in range(3):
        trunk(torch.randn(4, 3, 32, 32) * 2 + 1)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return trunk.eval()


def test_the_map_has_late_and_early_channels_at_the_stride() -> None:
    trunk, images = used_trunk(), torch.randn(2, 3, 32, 32)
    features = trunk(images)["0"]
    assert features.shape == (2, trunk.out_channels, 32 // STRIDE, 32 // STRIDE) == (2, 24, 4, 4)
    early = F.avg_pool2d(trunk.early(images), 2)
    assert torch.equal(features[:, 16:], early)


def test_folding_removes_every_batch_norm_and_changes_no_output() -> None:
    trunk, images = used_trunk(), torch.randn(2, 3, 32, 32)
    before = trunk(images)["0"]
    fold_batch_norm(trunk)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    torch.testing.assert_close(trunk(images)["0"], before, rtol=1e-4, atol=1e-4)
