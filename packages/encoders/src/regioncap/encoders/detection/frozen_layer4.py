"""ResNet-50's last stage over boxes, laid out for weights that stand still."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import MultiScaleRoIAlign

from regioncap.encoders.detection.box_heads import BoxHead, Layer4Head
from regioncap.encoders.detection.linear_pool import linear_pool
from regioncap.encoders.detection.minimal_filtering import MinimalConvolution, filtering_of
from regioncap.encoders.detection.trunk import Maps
from regioncap.encoders.fast_linear import linear, quicken

_BOXES = 100
"""Boxes at once: their cells stay in the cache, and the filters are read seldom enough."""


def frozen_head(head: BoxHead, cells: int) -> BoxHead:
    """Return a head that computes what `head` does over boxes pooled to cells x cells, faster where a way is known.

    The weights must stand still from here on, batch normalisation be part of the convolutions; `head` is used up.
    """
    if isinstance(head, Layer4Head) and filtering_of(cells, head.stride):
        return FrozenLayer4Head(head, cells)
    quicken(head, "float32")
    return head


class FrozenLayer4Head(BoxHead):
    """`Layer4Head` in less time: 3x3 convolutions by minimal filtering, all else as matrix products, in place.

    A box's cells come first in memory, so that products over channels and products over cells need no reordering in
    between. P boxes, C channels, s cells a side pooled, t = (s + 1) / 2 after the stride.
    """

    out_dim = Layer4Head.out_dim

    def __init__(self, head: Layer4Head, cells: int) -> None:
        super().__init__()
        self.stride, self.layer4 = head.stride, head.layer4
        assert isinstance(self._blocks[0].bn1, nn.Identity), "fold batch normalisation first"
        shapes = [(cells, head.stride)] + [((cells + 1) // 2, 1)] * (len(self._blocks) - 1)
        self.filters = nn.ModuleList(
            MinimalConvolution(block.conv2, filtering)
            for block, shape in zip(self._blocks, shapes, strict=True)
            if (filtering := filtering_of(*shape))
        )
        assert len(self.filters) == len(shapes), f"no way is known to filter one of {shapes}"

    def forward(self, pooled: Float[Tensor, "P C s s"]) -> Float[Tensor, "P R"]:
        """Return the features of regions whose maps were pooled to s x s cells."""
        first, cells = self._blocks[0], pooled.permute(2, 3, 0, 1)  # s s P C
        skip = _product(first.downsample[0], cells[:: self.stride, :: self.stride].flatten(0, 1))
        return self._features(_product(first.conv1, cells.flatten(0, 1)), skip)

    def of_boxes(
        self,
        levels: Maps,
        boxes: Sequence[Float[Tensor, "_p 4"]],
        sizes: Sequence[tuple[int, int]],
        pool: MultiScaleRoIAlign,
    ) -> Float[Tensor, "P R"]:
        """Return what `forward` makes of the pooled boxes; the projections go before the pooling (`Layer4Head`)."""
        (level,) = levels.values()
        scale, cells, samples = level.shape[-2] / sizes[0][0], pool.output_size[0], pool.sampling_ratio
        first, channels_last = self._blocks[0], level.permute(0, 2, 3, 1)
        paths = []
        for convolution, step in ((first.conv1, 1), (first.downsample[0], self.stride)):
            paths.append((linear(channels_last, convolution.weight.flatten(1), None), convolution.bias, step))
        found = []
        for images, group in _groups(boxes):
            inputs, skip = (
                linear_pool(projected[images], group, scale=scale, cells=cells, samples=samples, step=step)
                .permute(2, 3, 0, 1)
                .flatten(0, 1)
                .add_(bias)  # after pooling: samples beyond the edge count 0, and must not take it along
                for projected, bias, step in paths
            )
            found.append(self._features(inputs, skip))
        return torch.cat(found) if found else level.new_zeros(0, self.out_dim)

    def _features(self, inputs: Float[Tensor, "ss P C"], skip: Float[Tensor, "tt P R"]) -> Float[Tensor, "P R"]:
        """The rest of the stage from what the first bottleneck's 1x1 convolutions made."""
        x, y = skip, inputs
        for place, (block, filtered) in enumerate(zip(self._blocks, self.filters, strict=True)):
            y = y if place == 0 else _product(block.conv1, x)
            x = _product(block.conv3, filtered(y.relu_()).relu_()).add_(x).relu_()
        return x.mean(0)

    @property
    def _blocks(self) -> list[Bottleneck]:
        return list(self.layer4)


def _product(convolution: nn.Conv2d, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows O"]:
    """A 1x1 convolution, channels last."""
    return linear(x, convolution.weight.flatten(1), convolution.bias)


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
