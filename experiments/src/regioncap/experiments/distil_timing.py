"""How long a caption takes, on one CPU thread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from regioncap.decoder import CaptionTokenizer, SearchConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.features import FeatureStore

_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionTimes:
    """CPU milliseconds per caption, encoders left out."""

    decoder: float
    """The search alone."""
    captioner: float
    """From stored features to the words: every stage and the search."""


def caption_times(
    captioners: Mapping[str, Captioner],
    store: FeatureStore,
    tokenizer: CaptionTokenizer,
    search: SearchConfig,
    *,
    images: int = 32,
    batch: int = 1,
) -> dict[str, CaptionTimes]:
    """Time captioners beside each other on the first `images` of a store, `batch` at a time.

    Medians of five rounds after one to warm up; the captioners take turns, so that a machine that slows down slows all
    of them.
    """
    parts = torch.arange(min(images, len(store))).split(batch)
    pixels = [store.images(rows) for rows in parts]
    spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in captioners}
    for measured in range(_ROUNDS + 1):
        for name, captioner in captioners.items():
            captioner.eval()
            before, during = 0.0, 0.0
            for seen in pixels:
                offset = torch.zeros(len(seen.pooled), captioner.dim)
                with torch.inference_mode():
                    took, condition = _timed(lambda: captioner.condition(seen, offset))  # noqa: B023
                before += took
                during += _timed(lambda: captioner.caption(condition, search, tokenizer.unspoken))[0]  # noqa: B023
            if measured:
                spent[name][0].append(during)
                spent[name][1].append(before + during)
    count = sum(len(rows) for rows in parts)
    return {
        name: CaptionTimes(
            decoder=1000 * statistics.median(decoder) / count, captioner=1000 * statistics.median(whole) / count
        )
        for name, (decoder, whole) in spent.items()
    }


def _timed(call: Callable[[], object]) -> tuple[float, object]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result
