import pytest
import torch
from torchvision.models import resnet50
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from regioncap.encoders.detection.batch_norm import fold_batch_norm
from regioncap.encoders.detection.box_heads import Layer4HeadConfig, MeanMlpHeadConfig, MlpHeadConfig


def test_mean_mlp_is_two_layers_and_the_mean() -> None:
    head = MeanMlpHeadConfig(hidden=6, dim=4).build(channels=3, cells=2)
    pooled = torch.randn(5, 3, 2, 2)
    out = head(pooled)
    assert out.shape == (5, head.out_dim) == (5, 7)
    first, second = head.layers[1], head.layers[3]
    hidden = (pooled.flatten(1) @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(out[:, :4], (hidden @ second.weight.T + second.bias).clamp(min=0))
    torch.testing.assert_close(out[:, 4:], pooled.sum((2, 3)) / 4)


def test_mlp_is_torchvisions() -> None:
    ours, theirs = MlpHeadConfig(dim=6).build(channels=3, cells=2), TwoMLPHead(12, 6)
    theirs.load_state_dict(ours.state_dict())
    pooled = torch.randn(5, 3, 2, 2)
    torch.testing.assert_close(ours(pooled), theirs(pooled))


@pytest.fixture(scope="module")
def normalised() -> torch.nn.Module:
    """A ResNet-50 whose frozen normalisations do something."""
    torch.manual_seed(0)
    model = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
            module.bias.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("folded", [False, True])
def test_layer4_of_boxes_is_the_stage_over_every_pooled_box(
    normalised: torch.nn.Module, stride: int, folded: bool
) -> None:
    """The plain assembly: RoIAlign, the whole stage, the mean. A box at the edge has samples beyond it."""
    head = Layer4HeadConfig(stride=stride).build(channels=1024, cells=7).eval()
    head.load_pretrained(normalised.state_dict())
    level = torch.randn(2, 1024, 6, 8).relu()
    boxes = [
        torch.tensor([[3.0, 10.0, 90.0, 77.0], [0.0, 0.0, 128.0, 96.0], [127.0, 90.0, 128.0, 96.0]]),
        torch.tensor([[40.0, 40.0, 44.0, 95.0]]),
    ]
    pool = MultiScaleRoIAlign(["0"], 7, 2)
    pooled = pool({"0": level}, boxes, [(96, 128)] * 2)
    stage = normalised.layer4
    stage[0].conv2.stride = stage[0].downsample[0].stride = (stride, stride)
    with torch.no_grad():
        expected = stage(pooled).mean((-1, -2))
        if folded:
            fold_batch_norm(head)
        torch.testing.assert_close(head(pooled), expected, rtol=1e-3, atol=1e-4)
        got = head.of_boxes({"0": level}, boxes, [(96, 128)] * 2, pool)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: MeanMlpHeadConfig(hidden=0), r"detector\.head\.hidden"),
        (lambda: MlpHeadConfig(dim=0), r"detector\.head\.dim"),
        (lambda: Layer4HeadConfig(stride=3), r"detector\.head\.stride"),
        (lambda: Layer4HeadConfig().build(channels=96, cells=7), "take it with ResNetC4Config"),
    ],
)
def test_bad_config_names_the_field(build, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        build()
