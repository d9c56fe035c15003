import pytest
import torch

from regioncap.encoders import EfficientNetLiteConfig, ResNetConfig, StackedMapsConfig, VitMapConfig
from regioncap.encoders.backbones import stacked


class Flat:
    """A backbone whose map says its own number everywhere."""

    def __init__(self, stride: int, channels: int, says: float) -> None:
        self.stride, self.channels, self.says = stride, channels, says

    def build(self, precision: str) -> torch.nn.Module:
        module = torch.nn.Module()
        module.stride, module.channels = self.stride, self.channels
        module.forward = lambda images: torch.full(
            (len(images), self.channels, *(side // self.stride for side in images.shape[-2:])), self.says
        )
        return module


def build(*backbones: Flat) -> stacked.StackedMaps:
    config = StackedMapsConfig()
    object.__setattr__(config, "backbones", backbones)
    return config.build("float32")


def test_channels_follow_each_other():
    both = build(Flat(32, 3, 1.0), Flat(32, 2, 2.0))
    seen = both(torch.rand(2, 3, 96, 96))
    assert (both.channels, both.stride) == (5, 32)
    assert seen.shape == (2, 5, 3, 3)
    assert seen[0, :, 1, 2].tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_one_backbone_stacked_is_itself():
    one = EfficientNetLiteConfig()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    alone = one.build("float32")
    twice = StackedMapsConfig(backbones=(one, one)).build("float32")
    assert torch.equal(twice(images), torch.cat([alone(images)] * 2, 1))


def test_strides_must_agree():
    with pytest.raises(ValueError, match="one stride, got 32, 16 pixels"):
        build(Flat(32, 1, 0.0), Flat(16, 1, 0.0))


def test_no_backbone_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        StackedMapsConfig(backbones=())


@pytest.mark.parametrize(
    "missing", [EfficientNetLiteConfig(weights="no.pth"), ResNetConfig(weights="./no"), VitMapConfig(weights="./no")]
)
def test_missing_weights_are_named(missing):
    with pytest.raises(ValueError, match=r"no\.pth|\./no"):
        StackedMapsConfig(backbones=(missing,)).build("float32")
