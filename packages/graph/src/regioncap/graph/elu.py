"""ELU in place of torch's on a CPU, where `expm1` takes ten times as long as `exp`: a tenth of a layer."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_BLOCK = 2**16
"""Numbers worked on at a time: a quarter of a MiB, which stays in a core's cache from one pass to the next."""


def elu_(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """x above zero, exp(x) - 1 below, in place (`x` is contiguous) and without a gradient: see `elu_backward`.

    In float32 on a CPU by exp instead of expm1, which is off by at most 6e-8 (absolute: half the spacing of floats at
    1). Elsewhere, and under torch.compile, torch's own.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.elu_(x)
    scratch = x.new_empty(min(x.numel(), _BLOCK))
    for part in x.view(-1).split(_BLOCK):
        below = torch.clamp_max(part, 0.0, out=scratch[: len(part)]).exp_().sub_(1.0)
        torch.maximum(below, part, out=part)  # exp(x) - 1 >= x, and it is 0 for positive x
    return x


def elu_backward(grad: Float[Tensor, "*S"], result: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """The gradient of `elu_`, from its result."""
    backward: Tensor = torch.ops.aten.elu_backward(grad, 1, 1, 1, True, result)
    return backward
