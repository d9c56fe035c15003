"""ResNet-50 under a detector: up to conv4 (C4), or with torchvision's feature pyramid."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from regioncap.encoders.detection.torchvision_weights import load_weights
from regioncap.encoders.detection.trunk import Maps, Trunk

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetC4Config:
    """ResNet-50 up to conv4: one map at stride 16, whose regions go through conv5 in `Layer4HeadConfig`."""

    weights: str = ""
    """ImageNet's ResNet-50 to start from: a torchvision weights file, or a name like `IMAGENET1K_V2`; empty: random."""
    trainable_layers: int = 2
    """How many of the stages layer1-layer3 learn, counted from the last; the maps before them may be cached."""

    def __post_init__(self) -> None:
        if not 0 <= self.trainable_layers <= 3:
            raise ValueError(f"detector.trunk.trainable_layers must lie in 0..3, got {self.trainable_layers}")

    def build(self) -> "ResNetC4":
        """Return the trunk with random weights."""
        return ResNetC4(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetFpnConfig:
    """ResNet-50 under a pyramid of 256 channels at strides 4 to 64, as in torchvision's `fasterrcnn_resnet50_fpn`."""

    weights: str = ""
    """ImageNet's ResNet-50 to start from: a torchvision weights file, or a name like `IMAGENET1K_V2`; empty: random."""
    trainable_layers: int = 3
    """How many of the stages layer1-layer4 learn, counted from the last (torchvision's default is 3)."""
    batch_norm_epsilon: float = 1e-5
    """Of the frozen normalisations; torchvision's COCO_V1 weights were made with 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.trainable_layers <= 4:
            raise ValueError(f"detector.trunk.trainable_layers must lie in 0..4, got {self.trainable_layers}")
        if self.batch_norm_epsilon < 0.0:
            raise ValueError(f"detector.trunk.batch_norm_epsilon must not be negative, got {self.batch_norm_epsilon}")

    def build(self) -> "ResNetFpn":
        """Return the trunk with random weights."""
        return ResNetFpn(self)


class ResNetTrunk(Trunk):
    """The body that both trunks share. Batch normalisation is frozen, as in every Faster R-CNN on a ResNet."""

    image_mean = (0.485, 0.456, 0.406)  # ImageNet's
    image_std = (0.229, 0.224, 0.225)

    def __init__(self, last: int, trainable_layers: int, weights: str) -> None:
        super().__init__()
        self.weights = weights
        # Children in the order of their use: conv1, bn1, relu, maxpool, layer1, ...
        names = {f"layer{i}": str(i - 1) for i in range(1, last + 1)}
        self.body = IntermediateLayerGetter(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), names)
        learning = [f"layer{i}" for i in range(1, last + 1)][last - trainable_layers :]
        self.frozen_stages = [name for name in self.body if name not in learning]
        self.learning_stages = learning
        for name in self.frozen_stages:
            self.body[name].requires_grad_(False)

    def frozen_maps(self, normalised: Float[Tensor, "B 3 S S"]) -> Maps:
        """Return the frozen stages' outputs: `layer1` and on, or `maxpool` if all of these learn."""
        outputs: Maps = {}
        x = normalised
        for name in self.frozen_stages:
            x = self.body[name](x)
            if name.startswith("layer"):
                outputs[name] = x
        return self._needed(outputs) or {"maxpool": x}

    def body_maps(self, maps: Maps) -> Maps:
        """Return the outputs of all stages that are needed."""
        x = maps[self.frozen_stages[-1]]
        outputs = dict(maps)
        for name in self.learning_stages:
            x = outputs[name] = self.body[name](x)
        return outputs

    def load_pretrained(self) -> Mapping[str, Tensor]:
        """Load ImageNet's weights and return those of later stages."""
        if not self.weights:
            return {}
        state = load_weights(self.weights, ResNet50_Weights, "detector.trunk.weights")
        own = self.body.state_dict().keys()
        missing = sorted(own - state.keys())
        if missing:
            raise ValueError(f"detector.trunk.weights {self.weights!r} is no ResNet-50: it has no {missing[0]}")
        self.body.load_state_dict({name: state[name] for name in own})
        return {name: value for name, value in state.items() if name not in own}

    def _needed(self, outputs: Maps) -> Maps:
        """What later steps read of the frozen stages' outputs."""
        return outputs


class ResNetC4(ResNetTrunk):
    """One map at stride 16, the output of conv4 (Ren et al. 2015; bottom-up attention, arXiv 1707.07998)."""

    out_channels = pooled_channels = 1024
    pooled_levels = ("0",)
    levels = 1
    finest_stride = multiple = 16

    def __init__(self, config: ResNetC4Config) -> None:
        super().__init__(3, config.trainable_layers, config.weights)

    def pyramid(self, body_maps: Maps) -> Maps:
        """Return the one map."""
        return {"0": body_maps["layer3"]}

    def pooled_map(self, body_maps: Maps) -> Float[Tensor, "B 1024 h w"]:
        """Return the one map."""
        return body_maps["layer3"]

    def _needed(self, outputs: Maps) -> Maps:
        return {name: x for name, x in outputs.items() if name == self.frozen_stages[-1]}


class ResNetFpn(ResNetTrunk):
    """torchvision's `resnet50` under its `FeaturePyramidNetwork`, weights under torchvision's names.

    The fifth level, a subsampling of the fourth, is for proposals alone.
    """

    out_channels = 256
    pooled_channels = 2048
    pooled_levels = ("0", "1", "2", "3")
    levels = 5
    finest_stride = 4
    multiple = 32

    def __init__(self, config: ResNetFpnConfig) -> None:
        super().__init__(4, config.trainable_layers, config.weights)
        self.fpn = FeaturePyramidNetwork([256, 512, 1024, 2048], self.out_channels, LastLevelMaxPool())
        for module in self.body.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = config.batch_norm_epsilon

    def pyramid(self, body_maps: Maps) -> Maps:
        """Return levels "0" to "3" and "pool"."""
        levels: Maps = self.fpn({name: body_maps[f"layer{i}"] for i, name in enumerate(self.pooled_levels, 1)})
        return levels

    def pooled_map(self, body_maps: Maps) -> Float[Tensor, "B 2048 h w"]:
        """Return the output of the last stage."""
        return body_maps["layer4"]
