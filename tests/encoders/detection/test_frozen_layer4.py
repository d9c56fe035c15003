import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from regioncap.encoders.detection.batch_norm import fold_batch_norm
from regioncap.encoders.detection.box_heads import Layer4Head, Layer4HeadConfig, MlpHeadConfig
from regioncap.encoders.detection.frozen_layer4 import FrozenLayer4Head, frozen_head
from regioncap.encoders.fast_linear import Float32Linear

SIZES = [(96, 128)] * 3
BOXES = [
    torch.tensor([[3.0, 10.0, 90.0, 77.0], [0.0, 0.0, 128.0, 96.0], [127.0, 90.0, 128.0, 96.0]]),
    torch.zeros(0, 4),
    torch.tensor([[40.0, 40.0, 44.0, 95.0], [1.0, 2.0, 60.0, 44.0]]),
]


@pytest.fixture(scope="module")
def head() -> Layer4Head:
    """Folded, with normalisations that did something."""
    torch.manual_seed(0)
    made = Layer4HeadConfig().build(channels=1024, cells=7).eval()
    for module in made.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
            module.bias.uniform_(-0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    fold_batch_norm(made)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def frozen(head: Layer4Head) -> FrozenLayer4Head:
    made = frozen_head(head, 7)
    assert isinstance(made, FrozenLayer4Head)
    return made


def level() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"0": torch.randn(3, 1024, 6, 8).relu().contiguous(memory_format=torch.channels_last)}


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_it_is_the_stage_over_every_pooled_box(
    head: Layer4Head, frozen: FrozenLayer4Head, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RoIAlign, the stage, the mean; in groups that split an image's boxes and groups that join images."""
    monkeypatch.setattr("regioncap.encoders.detection.frozen_layer4._BOXES", at_once)
    pool = MultiScaleRoIAlign(["0"], 7, 2)
    pooled = pool(level(), BOXES, SIZES)
    expected = head.layer4(pooled).mean((-1, -2))
    got = frozen.of_boxes(level(), BOXES, SIZES, pool)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(frozen(pooled), expected, rtol=1e-4, atol=2e-5)


def test_what_goes_in_is_left_as_it_was(frozen: FrozenLayer4Head) -> None:
    pool, maps, before = MultiScaleRoIAlign(["0"], 7, 2), level(), level()
    first = frozen.of_boxes(maps, BOXES, SIZES, pool)
    assert torch.equal(maps["0"], before["0"])
    assert torch.equal(frozen.of_boxes(maps, BOXES, SIZES, pool), first)


def test_no_box_gives_no_row(frozen: FrozenLayer4Head) -> None:
    nothing = [torch.zeros(0, 4)] * 3
    assert frozen.of_boxes(level(), nothing, SIZES, MultiScaleRoIAlign(["0"], 7, 2)).shape == (0, 2048)


def test_a_stage_without_an_algorithm_stays_as_it_is() -> None:
    other = Layer4HeadConfig(stride=1).build(channels=1024, cells=7)
    assert frozen_head(other, 7) is other


def test_linear_layers_are_quickened() -> None:
    head = MlpHeadConfig(dim=4).build(channels=3, cells=2)
    pooled = torch.randn(5, 3, 2, 2)
    with torch.no_grad():
        expected = head(pooled)
        frozen = frozen_head(head, 2)
        torch.testing.assert_close(frozen(pooled), expected)
    assert isinstance(frozen.fc6, Float32Linear)
    assert isinstance(frozen.fc7, Float32Linear)
