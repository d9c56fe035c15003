"""How long a caption takes, on one CPU thread."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from regioncap.decoder import CaptionTokenizer, SearchConfig
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import CaptionGenerator

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
    batches = [(store.images(rows), [store.names[row] for row in rows]) for rows in parts]
    generators = {name: CaptionGenerator(each.eval(), tokenizer, search) for name, each in captioners.items()}
    spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in captioners}
    for measured in range(_ROUNDS + 1):
        for name, captioner in captioners.items():
            searching, start = 0.0, time.process_time()
            for features, names in batches:
                with torch.inference_mode():
                    prefix = captioner.condition(features).prefix
                begun = time.process_time()
                generators[name].from_prefix(prefix, names)
                searching += time.process_time() - begun
            if measured:
                spent[name][0].append(searching)
                spent[name][1].append(time.process_time() - start)
    count = sum(len(rows) for rows in parts)
    return {
        name: CaptionTimes(
            decoder=1000 * statistics.median(decoder) / count, captioner=1000 * statistics.median(whole) / count
        )
        for name, (decoder, whole) in spent.items()
    }
