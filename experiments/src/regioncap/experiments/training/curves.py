"""What training shows of itself between evaluations: sizes of gradients, rates, throughput, memory."""

import time
from collections.abc import Iterable

import psutil
import torch
from torch import Tensor, nn

from regioncap.experiments.captioner import Captioner


class Throughput:
    """Images per second, of the clock and of this process's processor time, since it was asked last."""

    def __init__(self) -> None:
        self._images, self._clock, self._cpu = 0, time.perf_counter(), time.process_time()

    def add(self, images: int) -> None:
        """So many images went through a step."""
        self._images += images

    def restart(self) -> None:
        """Leave out the time until now, such as that of an evaluation."""
        self._images, self._clock, self._cpu = 0, time.perf_counter(), time.process_time()

    def values(self) -> dict[str, float]:
        """The rates since the last call; it starts anew."""
        clock, cpu = time.perf_counter() - self._clock, time.process_time() - self._cpu
        rates = {"images_per_s": self._images / max(clock, 1e-9), "images_per_cpu_s": self._images / max(cpu, 1e-9)}
        self.restart()
        return rates


def gradient_norms(captioner: Captioner) -> dict[str, float]:
    """Norm of the gradient of each stage that has one, before it is clipped, as `gradient_norm.STAGE`."""
    norms = {}
    for stage, module in captioner.named_children():
        norm = _norm(module.parameters())
        if norm is not None:
            norms[f"gradient_norm.{stage}"] = norm
    return norms


def memory_mb(device: torch.device) -> float:
    """Most memory held so far: by this process's tensors on a GPU; on a CPU, all of the process now. MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return float(psutil.Process().memory_info().rss) / 1e6


def _norm(parameters: Iterable[nn.Parameter]) -> float | None:
    gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else None
