"""Keyword banks measured: how right their words are, and what a large bank costs.

    python benchmarks/bench_banks.py words FLICKR8K        # precision on 200 words judged by hand, judged_words.tsv
    python benchmarks/bench_banks.py large CAPTIONS.txt 50000    # so many words and word pairs of a caption file

FLICKR8K is a folder in Flickr8k's layout with the phrases of Flickr30k Entities (entities.jsonl). The list holds 100
words drawn (`random.Random(1)`) from the scene banks and 100 from the detail banks of Flickr8k's training split (words
of 10 captions or more, the banks of both sources joined), each judged once, by the word alone. A scene word names or
describes a place, light, weather, an activity or event; a detail word names something that a box can be drawn around,
or a quality, number or material of it. Recall is of the judged words that fit.

`large` embeds with the MiniLM of the installed weights package; memory is what stays (RSS) after each step.
"""

import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch

from regioncap.encoders import TextEncoderConfig
from regioncap.experiments.data.caption_text import read_caption_text
from regioncap.experiments.data.entity_phrases import read_marked_captions
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.progress import track
from regioncap.guidance import (
    KeywordBank,
    StandardisedSimilarity,
    caption_words,
    detail_words,
    phrase_words,
    scene_words,
)
from regioncap.guidance.nearest import nearest_keys

Result = TypeVar("Result")
JUDGED = Path(__file__).with_name("judged_words.tsv")
EVERY = 10**6
QUERIES = 288


def words(root: Path) -> None:
    """Precision and recall of either source on the judged words."""
    images = Flickr8kConfig(root=root).read().split("train")
    captions = [caption for image in images for caption in image.captions]
    marked = read_marked_captions(root, [image.name for image in images])
    sources = {
        "captions": (
            scene_words(captions, min_count=10, limit=EVERY),
            detail_words(captions, min_count=10, limit=EVERY),
        ),
        "phrases": phrase_words(marked, captions, min_count=10, max_scene=EVERY, max_detail=EVERY),
    }
    with JUDGED.open(newline="", encoding="utf-8") as file:
        judged = list(csv.DictReader(file, delimiter="\t"))
    print("| source | bank | words | judged | precision | recall |\n|---|---|---:|---:|---:|---:|")
    for source, banks in sources.items():
        for name, bank in zip(("scene", "detail"), banks, strict=True):
            fits = {row["word"]: row["fits"] == "yes" for row in judged if row["bank"] == name}
            taken = [right for word, right in fits.items() if word in bank]
            precision, recall = sum(taken) / len(taken), sum(taken) / sum(fits.values())
            print(f"| {source} | {name} | {len(bank)} | {len(taken)} | {precision:.2f} | {recall:.2f} |")


def large(captions: Path, size: int) -> None:
    """Build, save, load and search a bank of words and pairs of neighbouring words."""
    counts: Counter[str] = Counter()
    for caption in read_caption_text(captions).captions:
        own = [word for word in caption_words(caption) if word[0].isalpha()]
        counts.update({*own, *map(" ".join, pairwise(own))})
    chosen = dict(counts.most_common(size))
    encoder = TextEncoderConfig(precision="bfloat16").build()
    print(f"{len(chosen):,} words; {resident_mib():.0f} MiB with the encoder")

    def encode(texts: list[str]) -> torch.Tensor:
        parts = [texts[start : start + 1024] for start in range(0, len(texts), 1024)]
        return torch.cat([encoder.embed(part) for part in track(parts, description="words", total=len(parts))])

    bank = timed("embedded", lambda: KeywordBank.embed(chosen, lambda texts: encode(list(texts))))
    with tempfile.TemporaryDirectory() as folder:
        timed("saved", lambda: bank.save(Path(folder)))
        print(f"{sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20:.1f} MiB on disk")
        timed("loaded", lambda: KeywordBank.load(Path(folder)))
    similarity = timed("in the stage", lambda: StandardisedSimilarity(bank, momentum=1.0, prior=0.5).eval())
    sentences = torch.cat([encoder.embed(list(read_caption_text(captions).captions[: 8 * QUERIES]))])
    timed("statistics of 2,304 queries", lambda: similarity.fit(sentences))
    asked = sentences[:QUERIES]
    timed("first search", lambda: similarity.nearest(asked, 4))
    found = timed("search", lambda: similarity.nearest(asked, 4))
    centred = asked - similarity.mean
    full = timed("full product", lambda: nearest_keys(centred, similarity.keys, similarity.prior, 4))
    print(f"{100 * float((found == full).float().mean()):.2f} % of the words the same, place by place")
    timed("spelling", lambda: print(bank.nearest_words("surfbord")))


def timed(what: str, call: Callable[[], Result]) -> Result:
    start = time.process_time()
    result = call()
    print(f"{what}: {time.process_time() - start:.3f} CPU s, {resident_mib():.0f} MiB", flush=True)
    return result


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 2**10


if __name__ == "__main__":
    torch.set_num_threads(1)
    match sys.argv[1:]:
        case ["words", folder]:
            words(Path(folder))
        case ["large", file, size]:
            large(Path(file), int(size))
        case _:
            sys.exit(__doc__)
