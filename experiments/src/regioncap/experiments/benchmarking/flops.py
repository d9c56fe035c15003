"""Floating point operations of a call, counted by torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from regioncap.experiments.benchmarking.measure import Call


def count_flops(call: Call) -> float | None:
    """FLOPs of one call: two for each multiply-add of its matrix products and convolutions; None if it makes none.

    Element-wise work, softmax, normalisation, sorting and pooling are not counted, as is usual. torch does not know of
    oneDNN's packed products, integer products and the CPU's fused attention: they are counted here by their shapes.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_UNKNOWN_TO_TORCH)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        call()
    return float(counter.get_total_flops()) or None


class _NoModules:
    """In the place of torch's `ModuleTracker`: by module nobody asks, and its hooks fail where a call without gradients
    is given tensors that require them."""

    parents = ("Global",)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _linear(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def _product(a: Sequence[int], b: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(a) * b[-1]


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Scores, and the sum of values; masked pairs are computed and count."""
    return 2 * math.prod(query) * key[-2] + 2 * math.prod(query[:-1]) * key[-2] * value[-1]


def _encoder_layer(x: Sequence[int], width: int, heads: int, qkv: Sequence[int], *rest: Any, **_: Any) -> int:
    """torch's whole transformer layer in inference: four projections, attention, two layers of the hidden width."""
    rows, slots, hidden = math.prod(x[:-1]), x[-2], int(rest[10][0])
    return 2 * rows * (4 * width**2 + 2 * width * hidden) + 4 * rows * slots * width


_UNKNOWN_TO_TORCH: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._int_mm: _product,
    torch.ops.aten._transformer_encoder_layer_fwd: _encoder_layer,
}
if torch.backends.mkldnn.is_available():
    _UNKNOWN_TO_TORCH[torch.ops.mkldnn._linear_pointwise] = _linear
