"""bfloat16 where the processor has it, float32 where it would be emulated."""

import warnings
from functools import cache
from multiprocessing import parent_process
from typing import Literal

import torch


def computes_bfloat16(device: torch.device | str) -> bool:
    """Whether the device has bfloat16 products of its own: x86 from AVX-512 on, Arm with BF16, GPUs from Ampere on.

    Others emulate them: EfficientNet-Lite0 takes over 20 times as long as in float32 on one core of a Zen 3. What asks
    for bfloat16 is therefore computed in float32 there, which is the more exact of the two. Says so once, by a warning.
    """
    return _computes_bfloat16(torch.device(device).type)


def arithmetic(device: torch.device | str, precision: Literal["float32", "bfloat16"]) -> torch.autocast:
    """The context in which convolutions and products run in `precision`, or in float32 by `computes_bfloat16`."""
    wanted = precision == "bfloat16" and computes_bfloat16(device)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=wanted)


def keeps_bfloat16(precision: str) -> bool:
    """Whether weights that are frozen in `precision` are kept in bfloat16: some processor here computes it.

    Weights are rounded before anybody knows where they will run; with a GPU in the machine that is where they run.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return precision == "bfloat16" and computes_bfloat16(device)


@cache
def _computes_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        has = bool(torch.cuda.is_bf16_supported(including_emulation=False))
    else:
        has = device_type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if not has and parent_process() is None:  # workers' parents say it for them
        warnings.warn(
            f"this {device_type} has no bfloat16 arithmetic: what asks for it is computed in float32", stacklevel=2
        )
    return has
