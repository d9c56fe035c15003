"""The processes that share a training: one, or those that `accelerate launch` or `torchrun` starts."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from jaxtyping import Int
from torch import Tensor, nn

from regioncap.encoders import computes_bfloat16
from regioncap.experiments.training.config import TrainConfig

Item = TypeVar("Item")
_PATIENCE = timedelta(days=2)
"""The others wait while the first process reads data and encodes pictures, which may take long."""


def rank() -> int:
    """Number of this process, from 0; 0 where nothing launched several."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes were launched together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Processes:
    """What one process has to do with the others, through `accelerate`.

    Every process draws the same batch and takes a slice of its own, so the number of processes changes nothing in what
    is learned but the order of additions and, where there is dropout, its draws.
    Raises ValueError for a precision that this machine does not have, and under FSDP, which the loop does not know.
    """

    def __init__(self, config: TrainConfig) -> None:
        on_cpu = config.device == "cpu" or not torch.cuda.is_available()
        if config.precision == "fp16" and on_cpu:
            raise ValueError("train.precision fp16 needs a CUDA GPU; bf16 runs on a CPU too")
        emulated = config.precision == "bf16" and not computes_bfloat16("cpu" if on_cpu else "cuda")
        # accelerate keeps the first precision that a process asks for; a process may train more than once.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision="no" if config.precision == "fp32" or emulated else config.precision,
            cpu=on_cpu,
            kwargs_handlers=[
                # What a phase freezes, and what an arm's loss does not reach, has no gradient.
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=_PATIENCE),
            ],
        )
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError(
                "training does not shard its weights (FSDP): launch without --use_fsdp; copies of them (DDP) fit, the "
                "largest captioner of Table 2 has 0.2 billion"
            )

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def index(self) -> int:
        """The number of this one."""
        return int(self.accelerator.process_index)

    @property
    def first(self) -> bool:
        """Whether this is the one that reports and writes."""
        return bool(self.accelerator.is_main_process)

    def parts(self, size: int, accumulate: int) -> list[Int[Tensor, " b"]]:
        """Positions in a batch of `size` images that this process takes, in parts that it takes one after the other.

        Raises ValueError where that leaves a part without an image.
        """
        if size < self.count * accumulate:
            raise ValueError(
                f"a step of {size} images cannot be shared by {self.count} processes with {accumulate} parts each: "
                "raise train.images_per_step, or lower train.accumulate"
            )
        own = torch.arange(size).tensor_split(self.count)[self.index]
        return list(own.tensor_split(accumulate))

    def slice_of(self, rows: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
        """The rows of an evaluation that this process takes: a contiguous share, in order of the processes."""
        return rows.tensor_split(self.count)[self.index]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on the device, under autocast and, where there are several processes, averaging gradients."""
        wrapped: nn.Module = self.accelerator.prepare_model(module)
        return wrapped

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sums over all processes, float64."""
        if self.count == 1:
            return dict(values)
        sums = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def gathered(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, in their order."""
        if self.count == 1:
            return list(items)
        everybody: list[Item] = gather_object(list(items))
        return everybody

    def told(self, value: Item) -> Item:
        """What the first process has."""
        if self.count == 1:
            return value
        told: list[Any] = broadcast_object_list([value])
        return told[0]  # type: ignore[no-any-return]

    def any(self, fact: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.total({"": float(fact)})[""])
