"""Clocks and rounds: how long a call takes, alone or in turns with others."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from regioncap.experiments.benchmarking.record import Ratio

Call = Callable[[], object]
"""Does the work once, on inputs made beforehand."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
"""CPU seconds of this process on a CPU, so that a busy machine counts less; wall seconds where a GPU does the work."""
_CACHE_FLOATS = 2**25
"""128 MiB, more than a processor's caches hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Seconds of each round of each call; round i of all calls was taken at about the same moment."""

    seconds: Mapping[str, Sequence[float]]

    def p50(self, name: str) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds[name])

    def p95(self, name: str) -> float:
        """Seconds that 95 of 100 rounds stay below."""
        return percentile(self.seconds[name], 0.95)

    def ratio(self, peer: str, ours: str) -> Ratio:
        """The peer's time over ours, round by round: what slows a machine for a while slows both."""
        ratios = [theirs / own for theirs, own in zip(self.seconds[peer], self.seconds[ours], strict=True)]
        low, high = percentile(ratios, 0.25), percentile(ratios, 0.75)
        return Ratio(peer=peer, median=statistics.median(ratios), low=low, high=high)


def in_turns(
    calls: Mapping[str, Call],
    *,
    seconds: float = 5.0,
    rounds: tuple[int, int] = (5, 31),
    repeats: int = 1,
    warm_up: int = 1,
    cold: bool = False,
) -> Rounds:
    """Time calls that take turns, back and forth, so that none is always the first.

    As many rounds within `rounds` (least and most) as fit into about `seconds`, after `warm_up` that do not count. A
    round makes each call `repeats` times and keeps the mean. `cold` empties the processor's caches before each, as the
    rest of a captioner does. Raises ValueError for no calls, or rounds that cannot be.
    """
    if not calls or not 1 <= rounds[0] <= rounds[1] or repeats < 1 or warm_up < 1:
        raise ValueError(
            f"in_turns wants calls, 1 <= least <= most rounds, repeats >= 1 and warm_up >= 1; got {len(calls)} calls, "
            f"rounds {rounds}, repeats {repeats}, warm_up {warm_up}"
        )
    once = min(sum(_timed(call, 1) for call in calls.values()) for _ in range(warm_up))
    count = max(rounds[0], min(rounds[1], round(seconds / max(repeats * once, 1e-9))))
    passed = torch.zeros(_CACHE_FLOATS) if cold else torch.zeros(0)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(count):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            passed.add_(1)
            taken[name].append(_timed(calls[name], repeats))
    return Rounds(seconds=taken)


def synchronised(call: Call) -> None:
    """Make a call and wait until a GPU is done with it."""
    call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values stay below, linear between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _timed(call: Call, repeats: int) -> float:
    started = CLOCK()
    for _ in range(repeats):
        synchronised(call)
    return (CLOCK() - started) / repeats
