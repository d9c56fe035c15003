"""ELU for a CPU, several times faster than torch's: a tenth of a layer otherwise goes into `expm1`."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


_BLOCK = 2**16
"""Numbers worked on at a time: a quarter of a MiB, which stays in a core's cache from one pass to the next."""


def elu(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """x above zero, exp(x) - 1 below.

    In float32 on a CPU by exp instead of expm1, which is off by at most 6e-8 (absolute: half the spacing of floats at
    1). Elsewhere, and under torch.compile, torch's own.
    """
    if x.dtype == torch.float32 and x.device.type == "cpu" and not torch.compiler.is_compiling():
        result: Tensor = _Elu.apply(x)  # type: ignore[no-untyped-call]
        return result
    return functional.elu(x)


class _Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        if x.numel() <= _BLOCK:
            result = _fill(torch.empty_like(x), x)
        else:
            result = torch.empty_like(x, memory_format=torch.contiguous_format)
            for made, given in zip(result.view(-1).split(_BLOCK), x.flatten().split(_BLOCK), strict=True):
                _fill(made, given)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.elu_backward(grad, 1, 1, 1, True, result)


def _fill(made: Float[Tensor, "*S"], given: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    torch.clamp_max(given, 0.0, out=made)
    return torch.maximum(made.exp_().sub_(1.0), given, out=made)  # exp(x) - 1 >= x, and it is 0 for positive x
