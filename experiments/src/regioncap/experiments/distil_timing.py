"""How long a caption takes, on one CPU thread."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from regioncap.decoder import CaptionTokenizer, SearchConfig, Wording
from regioncap.decoder import search as look_for
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
    batches = [store.images(rows) for rows in parts]
    decoders = {name: each.eval().decoder.incremental(search.precision) for name, each in captioners.items()}
    wording = Wording.of(tokenizer, bad_words=search.bad_words, prompt=search.prompt)
    spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in captioners}
    for measured in range(_ROUNDS + 1):
        for name, captioner in captioners.items():
            searching, start = 0.0, time.process_time()
            for images_seen in batches:
                with torch.inference_mode():
                    offset = torch.zeros(len(images_seen.pooled), captioner.dim)
                    prefix = captioner.condition(images_seen, offset).prefix
                begun = time.process_time()
                look_for(decoders[name], prefix.embeddings, prefix.valid, search, wording, prefix.added)
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
