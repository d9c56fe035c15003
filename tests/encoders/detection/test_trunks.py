"""Trunks over pre-trained networks: same maps as the plain network, cut anywhere."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet50
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from regioncap.encoders.detection.efficientnet_fpn import EfficientNetFpnConfig
from regioncap.encoders.detection.resnet import ResNetC4Config, ResNetFpnConfig

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 weights file as torchvision publishes it, with statistics of its own."""
    torch.manual_seed(0)
    model = resnet50(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("imagenet") / "resnet50.pth"
    torch.save(model.state_dict(), path)
    return path


def plain_resnet(weights: Path) -> torch.nn.Module:
    model = resnet50(weights=None)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


@pytest.mark.parametrize("trainable_blocks", [0, 1, 3, 5, 16])
def test_efficientnet_maps_are_the_plain_networks_wherever_it_is_cut(trainable_blocks: int) -> None:
    trunk = EfficientNetFpnConfig(channels=8, strides=(4, 8, 16, 32), trainable_blocks=trainable_blocks).build()
    assert trunk.load_pretrained() == {}
    x, outputs = trunk.body.first_map(IMAGES), []
    for block in trunk.body.blocks:
        x = block(x)
        outputs.append(x)
    body_maps = trunk.body_maps(trunk.frozen_maps(IMAGES))
    for name, block in (("4", 2), ("8", 4), ("16", 10), ("32", 15)):
        assert torch.equal(body_maps[name], outputs[block])
    torch.testing.assert_close(trunk.pooled_map(body_maps), trunk.body(IMAGES))
    learning = {name.split(".")[2] for name, p in trunk.named_parameters() if p.requires_grad and "body" in name}
    assert learning == {str(i) for i in range(16 - trainable_blocks, 16)}


def test_frozen_maps_hold_nothing_twice() -> None:
    """The cut after block 10 needs no map beside those of the levels."""
    for trainable_blocks, names in ((0, {"8", "16", "32"}), (5, {"8", "16"}), (3, {"8", "16", "trunk"})):
        trunk = EfficientNetFpnConfig(trainable_blocks=trainable_blocks).build()
        assert trunk.frozen_maps(IMAGES).keys() == names


def test_efficientnet_pyramid_is_its_equation() -> None:
    trunk = EfficientNetFpnConfig(channels=8).build().eval()
    body_maps = trunk.body_maps(trunk.frozen_maps(IMAGES))
    levels = trunk.pyramid(body_maps)
    top = F.relu(trunk.lateral["32"][1](trunk.lateral["32"][0](body_maps["32"])))
    middle = F.relu(trunk.lateral["16"][1](trunk.lateral["16"][0](body_maps["16"])))
    middle = middle + top.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    bottom = F.relu(trunk.lateral["8"][1](trunk.lateral["8"][0](body_maps["8"])))
    bottom = bottom + middle.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    for name, merged in (("32", top), ("16", middle), ("8", bottom)):
        torch.testing.assert_close(levels[name], F.relu(trunk.smooth[name][1](trunk.smooth[name][0](merged))))
        assert levels[name].shape == (2, trunk.out_channels, 64 // int(name), 64 // int(name))


@pytest.mark.parametrize("trainable_layers", [0, 1, 3])
def test_c4_is_the_plain_resnet_up_to_conv4(imagenet: Path, trainable_layers: int) -> None:
    trunk = ResNetC4Config(weights=str(imagenet), trainable_layers=trainable_layers).build()
    rest = trunk.load_pretrained()
    assert "layer4.0.conv1.weight" in rest
    assert "layer3.0.conv1.weight" not in rest
    model = plain_resnet(imagenet)
    x = model.maxpool(model.relu(model.bn1(model.conv1(IMAGES))))
    expected = model.layer3(model.layer2(model.layer1(x)))
    frozen = trunk.frozen_maps(IMAGES)
    assert list(frozen) == [{0: "layer3", 1: "layer2", 3: "maxpool"}[trainable_layers]]
    assert not any(x.requires_grad for x in frozen.values())
    levels = trunk.pyramid(trunk.body_maps(frozen))
    torch.testing.assert_close(levels["0"], expected, rtol=1e-3, atol=1e-3)
    learning = {name.split(".")[1] for name, p in trunk.named_parameters() if p.requires_grad}
    assert learning == {f"layer{i}" for i in range(4 - trainable_layers, 4)}


@pytest.mark.parametrize("trainable_layers", [0, 3, 4])
def test_fpn_is_torchvisions(imagenet: Path, trainable_layers: int) -> None:
    trunk = ResNetFpnConfig(weights=str(imagenet), trainable_layers=trainable_layers).build()
    trunk.load_pretrained()
    theirs = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    theirs.load_state_dict(trunk.state_dict())
    levels, expected = trunk(IMAGES), theirs(IMAGES)
    assert list(levels) == list(expected) == [*trunk.pooled_levels, "pool"]
    for name in expected:
        torch.testing.assert_close(levels[name], expected[name], rtol=1e-3, atol=1e-3)
    model = plain_resnet(imagenet)
    assert torch.equal(trunk.body["layer4"][2].conv3.weight, model.layer4[2].conv3.weight)
    learning = {name.split(".")[1] for name, p in trunk.named_parameters() if p.requires_grad and "body" in name}
    assert learning == {f"layer{i}" for i in range(5 - trainable_layers, 5)}


def test_epsilon_is_read() -> None:
    for epsilon in (0.0, 1e-2):
        trunk = ResNetFpnConfig(batch_norm_epsilon=epsilon).build()
        assert trunk.body["bn1"].eps == epsilon


def test_foreign_or_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"detector\.trunk\.weights 'nowhere' is neither a file nor.*IMAGENET1K_V2"):
        ResNetC4Config(weights="nowhere").build().load_pretrained()
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"no ResNet-50: it has no bn1\.bias"):
        ResNetFpnConfig(weights=str(tmp_path / "other.pth")).build().load_pretrained()


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: EfficientNetFpnConfig(strides=(8, 32)), "strides"),
        (lambda: EfficientNetFpnConfig(channels=0), "channels"),
        (lambda: EfficientNetFpnConfig(trainable_blocks=17), "trainable_blocks"),
        (lambda: ResNetC4Config(trainable_layers=4), "trainable_layers"),
        (lambda: ResNetFpnConfig(trainable_layers=5), "trainable_layers"),
        (lambda: ResNetFpnConfig(batch_norm_epsilon=-1.0), "batch_norm_epsilon"),
    ],
)
def test_bad_config_names_the_field(build, field: str) -> None:
    with pytest.raises(ValueError, match=rf"detector\.trunk\.{field}"):
        build()
