"""Matrix products of decoding with fixed weights, laid out once for the processor."""

from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8"]
"""Arithmetic of a matrix product. What goes in and comes out is float32 whichever is chosen."""

Activation = Literal["none", "gelu"]
"""`gelu` is GPT-2's, the tanh approximation."""

_INT8_LARGEST = 127.0


@runtime_checkable
class Projection(Protocol):
    """activation(x W + b) over the last axis."""

    def __call__(self, x: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows O"]:
        """Map I channels to O."""
        ...


def project_by(
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, " O"] | None,
    precision: Precision = "float32",
    activation: Activation = "none",
) -> Projection:
    """The fastest projection for the weight's device. It keeps a copy of the weights: later changes do not reach it.

    With one word at a time a product has few rows, and reading or repacking the weights is what costs. On a CPU they
    are therefore laid out once as oneDNN wants them; results differ from `F.linear` by rounding. `int8` is for CPUs:
    weights are rounded per output channel and inputs per row, so that no row's result depends on its batch-mates.
    bfloat16 is float32 on a CPU that would emulate it. Raises ValueError for int8 on another device.
    """
    if precision == "int8":
        if weight.device.type != "cpu":
            raise ValueError(f"search.precision int8 runs on CPUs, the decoder is on {weight.device}: take bfloat16")
        return _Int8Projection(weight, bias, activation)
    emulated = weight.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    dtype = torch.bfloat16 if precision == "bfloat16" and not emulated else torch.float32
    if weight.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return _PackedProjection(weight, bias, dtype, activation)
    return _PlainProjection(weight, bias, dtype, activation)


class _PlainProjection:
    """torch's own product: GPUs keep no packed layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: Activation) -> None:
        self._weight = weight.detach().to(dtype)
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._activation = activation

    def __call__(self, x: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows O"]:
        y = F.linear(x.to(self._weight.dtype), self._weight, self._bias).float()
        return F.gelu(y, approximate="tanh") if self._activation == "gelu" else y


class _PackedProjection:
    """oneDNN's product over weights in its blocked layout, with the activation in the same pass."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: Activation) -> None:
        # None for the number of rows: the layout for many rows serves few as well, and the reverse costs up to two.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype).contiguous(), None)
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._dtype = dtype
        self._activation, self._algorithm = activation, "tanh" if activation == "gelu" else ""

    def __call__(self, x: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows O"]:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self._dtype), self._weight, self._bias, self._activation, [], self._algorithm
        )
        return y.float()


class _Int8Projection:
    """Symmetric eight-bit weights and inputs, summed in 32-bit integers.

    y_ro = s_r t_o sum_i round(x_ri / s_r) round(W_oi / t_o) + b_o
    s_r = max_i |x_ri| / 127,   t_o = max_i |W_oi| / 127
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: Activation) -> None:
        weight = weight.detach().float()
        self._scale = (weight.abs().amax(1) / _INT8_LARGEST).clamp(min=1e-12)  # O
        self._weight: Int8[Tensor, "I O"] = (weight / self._scale[:, None]).round().to(torch.int8).t()
        self._bias = None if bias is None else bias.detach().float()
        self._activation = activation

    def __call__(self, x: Float[Tensor, "*rows I"]) -> Float[Tensor, "*rows O"]:
        rows = x.flatten(0, -2)
        scale = (rows.abs().amax(1, keepdim=True) / _INT8_LARGEST).clamp(min=1e-12)
        whole = torch._int_mm((rows / scale).round_().to(torch.int8), self._weight)
        y = whole.float().mul_(scale).mul_(self._scale)
        if self._bias is not None:
            y += self._bias
        if self._activation == "gelu":
            y = F.gelu(y, approximate="tanh")
        return y.view(*x.shape[:-1], -1)
