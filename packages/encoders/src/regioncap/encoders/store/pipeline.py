"""Decode and encode many batches at once, and hand them over in order."""

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore

import torch
from torch import Tensor, nn

from regioncap.encoders.image_encoder import ImageEncoder
from regioncap.encoders.store.errors import StoreError
from regioncap.encoders.store.layout import NotFinite, pack


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBatch:
    """What became of a batch of pictures."""

    tensors: Mapping[str, Tensor]
    """Those that could be read, in order, as `pack` has them; empty if none could."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Place in the batch -> why the picture could not be read."""


def encode_batches(
    encoder: ImageEncoder, batches: Sequence[Sequence[Path]], *, threads: int, at_once: int
) -> Generator[EncodedBatch]:
    """Yield every batch encoded, in order, `threads` batches in the making and at most as many done before their turn.

    A thread decodes its batch and encodes it, so that some decode while others encode. Torch gets one thread in each:
    its own would wait for each other in every layer, and a result would depend on their number. At most `at_once`
    threads encode; the others decode ahead: on a CPU as many as there are cores, on a GPU one.
    """
    gate: AbstractContextManager[object] = BoundedSemaphore(at_once) if at_once < threads else nullcontext()
    device = _device(encoder)

    def encode(paths: Sequence[Path]) -> EncodedBatch:
        pixels: list[tuple[Tensor, ...]] = []
        unreadable: dict[int, str] = {}
        for place, path in enumerate(paths):
            try:
                pixels.append(encoder.load(path))
            except ValueError as error:
                unreadable[place] = str(error)
        if not pixels:
            return EncodedBatch(tensors={}, unreadable=unreadable)
        columns = [torch.stack(column) for column in zip(*pixels, strict=True)]
        with gate, torch.inference_mode():
            features = encoder(*(column.to(device) for column in columns))
            try:
                return EncodedBatch(tensors=pack(features), unreadable=unreadable)
            except NotFinite as error:
                readable = [path for place, path in enumerate(paths) if place not in unreadable]
                raise StoreError(
                    f"the image encoder's {error} for {readable[error.row]}: check its weights, or its precision"
                ) from None

    waiting = iter(batches)
    running: deque[Future[EncodedBatch]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for paths in waiting:
            running.append(pool.submit(encode, paths))
            if len(running) == 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _device(encoder: ImageEncoder) -> torch.device:
    if isinstance(encoder, nn.Module):
        for tensor in (*encoder.parameters(), *encoder.buffers()):
            return tensor.device
    return torch.device("cpu")
