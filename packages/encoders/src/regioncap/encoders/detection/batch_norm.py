"""Batch normalisation of a trained network costs nothing once it is part of the convolution before it."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d


def fold_batch_norm(module: nn.Module) -> None:
    """Put every batch normalisation that follows a convolution into that convolution's weights, in place.

        BN(W x) = W' x + b',   W' = W gamma / sqrt(var + eps),   b' = beta - mean gamma / sqrt(var + eps)
    One follows another where it stands behind it in the same module and fits its channels: so it is in `nn.Sequential`
    and in torchvision's ResNets, whose children are in the order of their use. The module must be in evaluation mode.
    """
    for parent in module.modules():
        for (name, child), (next_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d)):
                setattr(parent, name, fuse_conv_bn_eval(child, norm))
                setattr(parent, next_name, nn.Identity())
