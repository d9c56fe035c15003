"""What the machine can do at best: its measured float32 matrix product."""

from functools import cache

import torch

from regioncap.encoders.fast_linear import linear
from regioncap.experiments.benchmarking.measure import DEVICE, Call, in_turns

_SIDES = (768, 1536, 3072) if DEVICE == "cpu" else (4096, 8192)


@cache
def matmul_peak() -> float:
    """FLOPs per second of the best of a few square float32 products: one thread of a CPU, or the GPU. Measured once.

    On a CPU both torch's own product (MKL) and oneDNN's are tried. The best round counts, since anything else on the
    machine only takes away from it. TF32 is as torch has it set.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return max(_best(side) for side in _SIDES)
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _best(side: int) -> float:
    a, b = torch.rand(2, side, side, device=DEVICE)
    out = torch.empty(side, side, device=DEVICE)
    products: dict[str, Call] = {"mm": lambda: torch.mm(a, b, out=out), "linear": lambda: linear(a, b, None)}
    rounds = in_turns(products, seconds=1.0, rounds=(3, 20))
    return 2 * side**3 / min(min(seconds) for seconds in rounds.seconds.values())
