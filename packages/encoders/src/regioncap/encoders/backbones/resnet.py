"""ResNets as backbones: torchvision's weights or a folder of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from transformers import AutoModel

from regioncap.encoders.arithmetic import keeps_bfloat16
from regioncap.encoders.fast_linear import Precision
from regioncap.encoders.preprocessing import load_normalisation
from regioncap.encoders.weights import MODEL_FILES, find_checkpoint, load_pretrained, one_line

_WAY_OUT = (
    "give resnet.weights a torchvision ResNet's weights (.pth or .safetensors), a folder of transformers' ResNet, or a "
    "hub name such as microsoft/resnet-50"
)
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"), ("convolution", "normalization"))
"""Names of a convolution and the BatchNorm behind it, in torchvision and in transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """Where the weights are; the depth is read from them."""

    weights: str = "microsoft/resnet-50"
    """torchvision's file of a ResNet-18 to 152 (.pth, .safetensors), a folder of transformers, or a hub name."""

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError(f"resnet.weights is empty: {_WAY_OUT}")

    def build(self, precision: Precision) -> "ResNetBackbone":
        """Load it. Raises ValueError if the weights are missing or of another model, or for int8."""
        return ResNetBackbone(self, precision)


class ResNetBackbone(nn.Module):
    """A ResNet without its classifier, BatchNorm folded, channels last, in bfloat16 if asked. Stride 32."""

    stride = 32

    def __init__(self, config: ResNetConfig, precision: Precision) -> None:
        super().__init__()
        if precision == "int8":
            raise ValueError("a ResNet computes in float32 or bfloat16, got int8: it has no linear layers")
        file = Path(config.weights)
        if file.is_file():
            trunk = _Torchvision(_state(file), file)
            mean, std = _IMAGENET_MEAN, _IMAGENET_STD
            self.trunk: nn.Module = trunk
            self.channels = trunk.channels
        else:
            source = find_checkpoint(config.weights, (*MODEL_FILES, ("preprocessor_config.json",)), way_out=_WAY_OUT)
            model = load_pretrained(AutoModel, source, what="ResNet", way_out=_WAY_OUT)
            if model.config.model_type != "resnet":
                raise ValueError(f"{source} is a {model.config.model_type}, not a ResNet: {_WAY_OUT}")
            mean, std = load_normalisation(source)
            self.trunk = _Transformers(model)
            self.channels = int(model.config.hidden_sizes[-1])
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.trunk.eval()
        fold_batch_norms(self.trunk)
        self.dtype = torch.bfloat16 if keeps_bfloat16(precision) else torch.float32
        self.trunk.to(self.dtype).to(memory_format=torch.channels_last)
        self.requires_grad_(False)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        """Return the feature map."""
        x = (images * 255.0 - self.mean) / self.std
        feature_map: Tensor = self.trunk(x.to(self.dtype).contiguous(memory_format=torch.channels_last))
        return feature_map.float()


def fold_batch_norms(module: nn.Module) -> None:
    """Put every BatchNorm of a ResNet in evaluation mode into the convolution before it, in place."""
    for part in module.modules():
        children = dict(part.named_children())
        for first, second in _PAIRS:
            convolution, norm = children.get(first), children.get(second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, first, fuse_conv_bn_eval(convolution, norm))
                setattr(part, second, nn.Identity())


class _Torchvision(nn.Module):
    """torchvision's ResNet up to its last map."""

    def __init__(self, state: Mapping[str, Tensor], file: Path) -> None:
        super().__init__()
        block = Bottleneck if "layer1.0.conv3.weight" in state else BasicBlock
        depths = [
            len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")}) for stage in range(1, 5)
        ]
        body = {key: value for key, value in state.items() if not key.startswith("fc.")}
        try:
            resnet = ResNet(block, depths, num_classes=1)
            del resnet.fc
            resnet.load_state_dict(body)
        except (IndexError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"{file} is not a torchvision ResNet ({reason}): {_WAY_OUT}") from error
        self.resnet = resnet
        self.channels = 512 * block.expansion

    def forward(self, x: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        net = self.resnet
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        y: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return y


class _Transformers(nn.Module):
    """transformers' ResNet up to its last map."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embedder, self.encoder = model.embedder, model.encoder

    def forward(self, x: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        y: Tensor = self.encoder(self.embedder(x), return_dict=True).last_hidden_state
        return y


def _state(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file raises whatever its bytes happen to provoke
        raise ValueError(f"{file} holds no weights that load ({one_line(error)}): {_WAY_OUT}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} holds no state dict of tensors: {_WAY_OUT}")
    return state
