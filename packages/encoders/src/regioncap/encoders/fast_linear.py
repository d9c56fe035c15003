"""Frozen linear layers by the fastest product a CPU has for them: float32 by oneDNN, or cheaper arithmetic.

Measured on one core of a Zen 4 (AVX-512, no AMX), 400 rows, 768 to 3072 channels, in GFLOP/s: float32 89 by torch's own
product (MKL) and 103 by oneDNN, bfloat16 206, int8 355 with the rounding of its input counted. Packing weights ahead of
time gains another 4 % at this many rows and is left out: the layers stay ordinary ones, which move and are stored.
Error on Gaussian numbers, relative to float32: bfloat16 0.3 %, int8 1.1 %.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from regioncap.encoders.arithmetic import keeps_bfloat16

Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
"""What a frozen encoder may compute in."""


def quicken(module: nn.Module, precision: Precision) -> None:
    """Replace every linear layer below `module` by a frozen one of this precision, in place.

    A vision transformer's patch embedding is such a layer too, in bfloat16 for both of the lower precisions. Where no
    processor computes bfloat16, float32 takes its place.
    Linear layers of a `nn.MultiheadAttention` stay: torch reads their weights past the layer.
    """
    half = precision != "float32" and keeps_bfloat16("bfloat16")
    products: Precision = "float32" if precision == "bfloat16" and not half else precision
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, _FAST[products](child))
        elif isinstance(child, nn.Conv2d) and child.stride == child.kernel_size and child.groups == 1:
            if half:
                setattr(module, name, PatchConvolution(child))
        elif not isinstance(child, nn.MultiheadAttention):
            quicken(child, precision)


def linear(
    x: Float[Tensor, "*B I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "*B O"]:
    """y = x W^T + b by torch, or by oneDNN where that is the same in less time: a CPU, float32, no gradient wanted."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return y


class Float32Linear(nn.Linear):
    """y = x W^T + b by `linear`, with the weights of the layer that it replaces."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Return y in float32."""
        return linear(x, self.weight, self.bias)


class BFloat16Linear(nn.Module):
    """y = x W^T + b with everything rounded to bfloat16 but the sums.

    The weights are rounded once, where autocast would do so in every call.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().bfloat16())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().bfloat16())
        self.weight: Float[Tensor, "O I"]
        self.bias: Float[Tensor, " O"] | None

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Return y in bfloat16."""
        return F.linear(x.bfloat16(), self.weight, self.bias)


class Int8Linear(nn.Module):
    """y = x W^T + b with x and W rounded to eight bits: one scale for each row of x and for each output channel.

        x_ri ~ s_r q_ri,   W_oi ~ t_o p_oi,   y_ro = s_r t_o sum_i q_ri p_oi + b_o;   s_r = max_i |x_ri| / 127
    A scale for each row (token) keeps the large activations of one token from flattening all others, as one scale for
    the tensor would (Dettmers et al. 2022, arXiv 2208.07339, sec. 2.1). Sums are exact, in 32-bit integers.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = _scale(weight)
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale[:, 0].clone())
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().float()
        self.register_buffer("bias", bias)
        self.weight: Int[Tensor, "O I"]
        self.scale: Float[Tensor, " O"]
        self.bias: Float[Tensor, " O"]

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Return y in bfloat16, whose rounding is a third of int8's."""
        rows = x.flatten(0, -2)
        scale = _scale(rows)
        rounded = (rows * scale.reciprocal()).round_().to(torch.int8)
        sums = torch._int_mm(rounded, self.weight.T)
        y: Tensor = torch.addcmul(self.bias, sums.float().mul_(scale), self.scale).bfloat16().unflatten(0, x.shape[:-1])
        return y


class PatchConvolution(nn.Module):
    """A convolution whose stride is its kernel (a vision transformer's first layer) as a product of matrices, in
    bfloat16. Not in int8, even where all else is: it is a hundredth of the work, and everything rests on it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.kernel_size = convolution.kernel_size
        self.register_buffer("weight", convolution.weight.detach().bfloat16())
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach().bfloat16())
        self.weight: Float[Tensor, "O C P Q"]
        self.bias: Float[Tensor, " O"] | None

    def forward(self, x: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B O V U"]:
        """Return y in float32, as it is what residuals are added to."""
        high, wide = self.kernel_size
        patches = x.bfloat16().unfold(2, high, high).unfold(3, wide, wide)  # B C V U P Q
        rows = patches.permute(0, 2, 3, 1, 4, 5).flatten(3)
        return F.linear(rows, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2).float()


_FAST = {"float32": Float32Linear, "bfloat16": BFloat16Linear, "int8": Int8Linear}


def _scale(rows: Float[Tensor, "R I"]) -> Float[Tensor, "R 1"]:
    """What one step of eight bits is worth in each row; a row of zeros has any scale but zero."""
    # torch.aminmax over rows takes ten times as long.
    return rows.abs().amax(1, keepdim=True).float().div_(127.0).clamp_(min=1e-12)
