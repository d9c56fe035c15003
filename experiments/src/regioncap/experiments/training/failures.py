"""What stops a training, in words that say what to do."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from regioncap.experiments.training.config import TrainConfig

_NAMED = 16
"""Images that a message names; it says how many more there were."""


class TrainingStopped(ValueError):
    """Training cannot go on; the message says why, of which images, and what is kept."""


def loss_failure(
    *, step: int, terms: Mapping[str, float], why: str, images: Sequence[str], config: TrainConfig, kept: str
) -> TrainingStopped:
    """The error for a loss that is no number or far too high."""
    named = ", ".join(images[:_NAMED]) + (f" and {len(images) - _NAMED} more" if len(images) > _NAMED else "")
    each = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    return TrainingStopped(
        f"{why} at step {step} ({each}); the images of that step: {named}. {kept}. Lower train.lr (now {config.lr:g}), "
        "or look at what these images and their captions hold"
    )


@contextmanager
def memory_advice(config: TrainConfig, processes: int) -> Iterator[None]:
    """Turn an allocator's complaint into a line that names the setting to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        parts = processes * config.accumulate
        way_out = f"raise train.accumulate (now {config.accumulate})"
        if parts >= config.images_per_step:
            way_out = f"lower train.captions_per_image (now {config.captions_per_image})"
        said = " ".join(str(error).split())[:160]
        raise TrainingStopped(
            f"out of memory with {config.images_per_step} images a step in {parts} part{'s' if parts > 1 else ''} "
            f"({said}): {way_out}, which changes memory alone, or lower train.images_per_step"
        ) from error


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    return "can't allocate memory" in said or "not enough memory" in said or "CUBLAS_STATUS_ALLOC_FAILED" in said
