"""ResNet-50's last stage over boxes, laid out for weights that stand still."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import MultiScaleRoIAlign

from regioncap.encoders.detection.box_heads import BoxHead, Layer4Head
from regioncap.encoders.detection.linear_pool import linear_pool
from regioncap.encoders.detection.minimal_filtering import MinimalConvolution, filtering_of
from regioncap.encoders.detection.trunk import Maps

_BOXES = 100
"""Boxes at once: their cells stay in the cache, and the filters are read seldom enough."""


def frozen_head(head: BoxHead, cells: int) -> BoxHead:
    """Return a head that computes what `head` does over boxes pooled to cells x cells, faster where a way is known.

    It keeps a copy of the weights. Batch normalisation must be part of the convolutions already.
    """
    if isinstance(head, Layer4Head) and filtering_of(cells, head.stride):
        return FrozenLayer4Head(head, cells)
    return head


class FrozenLayer4Head(BoxHead):
    """`Layer4Head` in half of its time: 3x3 convolutions by minimal filtering, all else as matrix products, in place.

    A box's cells come first in memory, so that the three kinds of product (over channels, over cells, over both) need
    no reordering in between. P boxes, C channels, s cells a side pooled, t = (s + 1) / 2 after the stride.
    """

    out_dim = Layer4Head.out_dim

    def __init__(self, head: Layer4Head, cells: int) -> None:
        super().__init__()
        first, *rest = cast(Sequence[Bottleneck], list(head.layer4))
        assert isinstance(first.bn1, nn.Identity), "fold batch normalisation first"
        self.stride = head.stride
        self.pooled_input, self.pooled_skip = _Product(first.conv1), _Product(first.downsample[0])
        self.first_filter = _filter(first.conv2, cells, head.stride)
        self.first_output = _Product(first.conv3)
        self.blocks = nn.ModuleList(_Block(block, (cells + 1) // 2) for block in rest)

    def forward(self, pooled: Float[Tensor, "P C s s"]) -> Float[Tensor, "P R"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        cells = pooled.permute(2, 3, 0, 1)  # s s P C
        skip = self.pooled_skip(cells[:: self.stride, :: self.stride].flatten(0, 1))
        return self._features(self.pooled_input(cells.flatten(0, 1)), skip)

    def of_boxes(
        self,
        levels: Maps,
        boxes: Sequence[Float[Tensor, "_p 4"]],
        sizes: Sequence[tuple[int, int]],
        pool: MultiScaleRoIAlign,
    ) -> Float[Tensor, "P R"]:
        """Return what `forward` makes of the pooled boxes; the projections go before the pooling (`Layer4Head`)."""
        (level,) = levels.values()
        scale, count, samples = level.shape[-2] / sizes[0][0], pool.output_size[0], pool.sampling_ratio
        channels_last = level.permute(0, 2, 3, 1)
        projections = (self.pooled_input, 1), (self.pooled_skip, self.stride)
        maps = [F.linear(channels_last, projection.weight) for projection, _ in projections]
        found = []
        for images, group in _groups(boxes):
            inputs, skip = (
                linear_pool(projected[images], group, scale=scale, cells=count, samples=samples, step=step)
                .permute(2, 3, 0, 1)
                .flatten(0, 1)
                .add_(projection.bias)
                for projected, (projection, step) in zip(maps, projections, strict=True)
            )
            found.append(self._features(inputs, skip))
        return torch.cat(found) if found else level.new_zeros(0, self.out_dim)

    def _features(self, inputs: Float[Tensor, "ss P C"], skip: Float[Tensor, "tt P R"]) -> Float[Tensor, "P R"]:
        """The rest of the stage from what the first bottleneck's 1x1 convolutions made."""
        x = self.first_output(self.first_filter(inputs.relu_()).relu_()).add_(skip).relu_()
        for block in self.blocks:
            x = block(x)
        return x.mean(0)


class _Product(nn.Module):
    """A frozen 1x1 convolution as a product of matrices."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", convolution.weight.detach().flatten(1).contiguous())
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach().clone())
        self.weight: Float[Tensor, "O C"]
        self.bias: Float[Tensor, " O"]

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows O"]:
        return F.linear(x, self.weight, self.bias)


class _Block(nn.Module):
    """A bottleneck whose skip path is the identity."""

    def __init__(self, block: Bottleneck, cells: int) -> None:
        super().__init__()
        self.input, self.filter = _Product(block.conv1), _filter(block.conv2, cells, 1)
        self.output = _Product(block.conv3)

    def forward(self, x: Float[Tensor, "tt P R"]) -> Float[Tensor, "tt P R"]:
        y: Tensor = self.output(self.filter(self.input(x).relu_()).relu_())
        return y.add_(x).relu_()


def _filter(convolution: nn.Conv2d, cells: int, stride: int) -> MinimalConvolution:
    filtering = filtering_of(cells, stride)
    assert filtering is not None, f"no way is known to filter {cells} cells at stride {stride}"
    return MinimalConvolution(convolution, filtering)


def _groups(boxes: Sequence[Float[Tensor, "_p 4"]]) -> Iterator[tuple[list[int], list[Float[Tensor, "_q 4"]]]]:
    """Boxes in their order, at most `_BOXES` at once: the places of their images, and the boxes of each."""
    images: list[int] = []
    group: list[Tensor] = []
    for image, own in enumerate(boxes):
        for part in own.split(_BOXES) if len(own) else ():
            if group and sum(map(len, group)) + len(part) > _BOXES:
                yield images, group
                images, group = [], []
            images.append(image)
            group.append(part)
    if group:
        yield images, group
