import shutil

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from transformers import AutoModel, ConvNextImageProcessor, ResNetModel
from transformers import ResNetConfig as PublishedConfig

from regioncap.encoders import ResNetConfig


def lively(model):
    """BatchNorm statistics as after training: folding them has to matter."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.0)
            module.bias.data.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module", params=[BasicBlock, Bottleneck])
def torchvision_model(request):
    return lively(ResNet(request.param, [1, 2, 1, 1]))


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def last_map(model, images):
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    model = nn.Sequential(*list(model.children())[:-2])
    with torch.no_grad():
        return model((images - mean) / std)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_equals_torchvision(torchvision_model, images, suffix, tmp_path):
    file = tmp_path / f"resnet{suffix}"
    state = torchvision_model.state_dict()
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    backbone = ResNetConfig(weights=str(file)).build("float32")
    expected = last_map(torchvision_model, images)
    torch.testing.assert_close(backbone(images), expected, atol=1e-4, rtol=1e-4)
    assert expected.shape[1] == backbone.channels
    assert expected.shape[2] == 64 // backbone.stride
    rough = ResNetConfig(weights=str(file)).build("bfloat16")(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, backbone(images))
    assert torch.cosine_similarity(rough.flatten(1), expected.flatten(1)).min() > 0.999
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    shape = PublishedConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    lively(ResNetModel(shape)).save_pretrained(folder)
    ConvNextImageProcessor(
        size={"shortest_edge": 224}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)
    return folder


def test_equals_transformers(folder, images):
    backbone = ResNetConfig(weights=str(folder)).build("float32")
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = (
            AutoModel.from_pretrained(folder, dtype=torch.float32).eval()((images - mean) / std).last_hidden_state
        )
    torch.testing.assert_close(backbone(images), expected, atol=1e-4, rtol=1e-4)
    assert (backbone.channels, backbone.stride) == (32, 32)


def test_what_is_missing_or_foreign_is_named(folder, clip_folder, tmp_path):
    with pytest.raises(ValueError, match=r"resnet\.weights is empty"):
        ResNetConfig(weights="")
    with pytest.raises(ValueError, match=r"there is no folder /no/such: give resnet\.weights"):
        ResNetConfig(weights="/no/such").build("float32")
    with pytest.raises(ValueError, match="is a clip, not a ResNet"):
        ResNetConfig(weights=str(clip_folder)).build("float32")
    with pytest.raises(ValueError, match="float32 or bfloat16, got int8"):
        ResNetConfig(weights=str(folder)).build("int8")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.pth holds no weights that load \([^\n]+$"):
        ResNetConfig(weights=str(tmp_path / "junk.pth")).build("float32")
    torch.save({"a": 1}, tmp_path / "no.pth")
    with pytest.raises(ValueError, match=r"no\.pth holds no state dict"):
        ResNetConfig(weights=str(tmp_path / "no.pth")).build("float32")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is not a torchvision ResNet"):
        ResNetConfig(weights=str(tmp_path / "other.pth")).build("float32")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"broken has no preprocessor_config\.json"):
        ResNetConfig(weights=str(broken)).build("float32")
