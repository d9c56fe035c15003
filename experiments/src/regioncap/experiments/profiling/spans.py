"""Stages as spans of a running program: named for the profiler, timed for everybody, without a line in the stages."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch.profiler import record_function

from regioncap.decoder import FusedPrefix, Gpt2Decoder, KeywordPieces, MappedPrefix, TokenPrefix, TokenSpread
from regioncap.encoders import (
    ClipEncoder,
    ClipHead,
    ClipTail,
    CompositeEncoder,
    FasterRcnnEncoder,
    GridEncoder,
)
from regioncap.experiments.adapter import Adapter, NoRegions
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.training.images import OnTheFlyImages, StoredImages
from regioncap.experiments.training.objectives.caption import CaptionObjective
from regioncap.experiments.training.objectives.self_critical import SelfCritical
from regioncap.experiments.training.stepper import Stepper
from regioncap.graph import Fusion, GlobalOnly, NoGraph, RegionGraph
from regioncap.guidance import KeywordCommittee, KeywordHeads, NoGuidance, SemanticGuidance

PREFIX = "stage: "
"""Before a stage's name in a trace."""
LOADING, BACKWARD, OPTIMIZER, REST = "loading", "backward", "optimizer", "rest of the step"

STAGE_METHODS: tuple[tuple[type, str, str], ...] = (
    *((kind, "load", "preprocessing") for kind in (GridEncoder, FasterRcnnEncoder, ClipEncoder, CompositeEncoder)),
    (ClipEncoder, "pool", "global encoder"),
    (ClipHead, "embed_image", "global encoder"),
    (ClipTail, "embed_image", "global encoder"),
    (FasterRcnnEncoder, "forward", "region encoder"),
    (GridEncoder, "forward", "region encoder"),
    *((kind, "forward", "adapter") for kind in (Adapter, NoRegions)),
    *((kind, "forward", "graph") for kind in (RegionGraph, NoGraph)),
    *((kind, "forward", "fusion") for kind in (Fusion, GlobalOnly)),
    *((kind, "forward", "guidance") for kind in (KeywordHeads, KeywordCommittee, SemanticGuidance, NoGuidance)),
    *((kind, "forward", "prefix") for kind in (FusedPrefix, TokenPrefix, MappedPrefix, KeywordPieces, TokenSpread)),
    (Gpt2Decoder, "loss", "decoder"),
    (Gpt2Decoder, "token_losses", "decoder"),
    (CaptionGenerator, "from_prefix", "decoder"),
    *((kind, "forward", "objective") for kind in (CaptionObjective, SelfCritical)),
    *((kind, "targets", LOADING) for kind in (CaptionObjective, SelfCritical)),
    *((kind, "at", LOADING) for kind in (StoredImages, OnTheFlyImages)),
    (Accelerator, "backward", BACKWARD),
    (Accelerator, "clip_grad_norm_", OPTIMIZER),
    (AcceleratedOptimizer, "step", OPTIMIZER),
    (Stepper, "__call__", REST),
)
"""Class, method and the stage that a call of it belongs to; of calls within each other the inner one's counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One call."""

    stage: str
    thread: int
    start_s: float
    total_s: float
    own_s: float
    """Without the spans within it."""
    outermost: bool
    """Whether it is in no other span of its stage."""


class Spans:
    """While it is entered, calls of `STAGE_METHODS` are spans. A context manager; any thread may make the calls.

    Where `device` is a GPU a span waits for it at both ends, so that its seconds are those of its own kernels; `trace`
    lets it run on, as it does in use.
    """

    def __init__(self, device: torch.device, methods: Sequence[tuple[type, str, str]] = STAGE_METHODS) -> None:
        self.kept: list[Span] = []
        self.wait_for_gpu = device.type == "cuda"
        self._methods = methods
        self._open = threading.local()
        self._patches = ExitStack()

    def __enter__(self) -> "Spans":
        for owner, method, stage in self._methods:
            self._patches.enter_context(replaced(owner, method, lambda call, stage=stage: self._wrapped(call, stage)))  # type: ignore[misc]
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def seconds(self) -> dict[str, float]:
        """Stage -> its own seconds, over all threads."""
        sums: dict[str, float] = {}
        for span in self.kept:
            sums[span.stage] = sums.get(span.stage, 0.0) + span.own_s
        return sums

    def total(self, stage: str) -> float:
        """Seconds of a stage with the spans within it."""
        return sum(span.total_s for span in self.kept if span.stage == stage and span.outermost)

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Whatever is done within belongs to the stage."""
        inner: list[float] = getattr(self._open, "inner", [])
        around: list[str] = getattr(self._open, "around", [])
        self._open.inner, self._open.around = inner, around
        outermost = stage not in around
        inner.append(0.0)
        around.append(stage)
        self._synchronise()
        start = time.perf_counter()
        try:
            with record_function(PREFIX + stage):
                yield
        finally:
            self._synchronise()
            total = time.perf_counter() - start
            own = total - inner.pop()
            around.pop()
            if inner:
                inner[-1] += total
            thread = threading.get_ident()
            self.kept.append(
                Span(stage=stage, thread=thread, start_s=start, total_s=total, own_s=own, outermost=outermost)
            )

    def _wrapped(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(call)
        def spanned(*arguments: Any, **named: Any) -> Any:
            with self.span(stage):
                return call(*arguments, **named)

        return spanned

    def _synchronise(self) -> None:
        if self.wait_for_gpu:
            torch.cuda.synchronize()


@contextmanager
def replaced(owner: type, method: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """`make(method)` stands in the method's place for a while."""
    own = method in vars(owner)
    before = getattr(owner, method)
    setattr(owner, method, make(before))
    try:
        yield
    finally:
        if own:
            setattr(owner, method, before)
        else:
            delattr(owner, method)
