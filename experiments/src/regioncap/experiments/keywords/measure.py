"""How often guidance finds the words that people use: precision and recall of both banks, and of regions."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from regioncap.encoders.store import FeatureStore
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.data.boxed_phrases import BoxedPhrases
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.keywords.inputs import inputs_of
from regioncap.experiments.keywords.targets import caption_shares, region_shares
from regioncap.guidance import KeywordBank, SemanticGuidance, SparseShares

IMAGE_DEPTH = 5
REGION_DEPTH = 3
_AT_ONCE = 100


@torch.inference_mode()
def word_retrieval(
    captioner: Captioner,
    store: FeatureStore,
    images: Sequence[CaptionedImage],
    phrases: Mapping[str, Sequence[BoxedPhrases]] | None = None,
) -> dict[str, float]:
    """Figures of retrieval over images, as fractions; empty for a captioner without guidance.

    Per scale `scene` and `detail`: `precision_5` (share of the first five words that stand in a caption of the image),
    `recall_5` (share of the captions' bank words that are among them) and `ceiling_5` (the precision of a perfect
    ranking: many images have fewer than five bank words in their captions). Where `phrases` are given, over the regions
    that match a human box with a bank word: `regions.hit_3` (share whose first three words hold a word of the box's
    phrases), `regions.precision_3` and `regions.ceiling_3`.
    """
    guidance = captioner.guidance
    if not isinstance(guidance, SemanticGuidance):
        return {}
    parts: dict[str, list[Tensor]] = {"scene": [], "detail": []}
    of_regions = None if phrases is None else region_shares(store, phrases, guidance.detail_bank)
    named_words, named_places = [], []
    for rows in torch.arange(len(store)).split(_AT_ONCE):
        seen = store.images(rows)
        adapted = captioner.adapter(seen.regions)
        enhanced = captioner.graph(adapted.features, adapted.raw, adapted.boxes, adapted.valid)
        queries = captioner.keyword_heads(inputs_of(seen))
        g = captioner.embed_image(seen.pooled)
        ranked = guidance.ranked(g, enhanced.features, enhanced.valid, queries, count=IMAGE_DEPTH)
        for name, words in parts.items():
            found = getattr(ranked, name)
            if found is not None:
                words.append(found)
        if ranked.regions is not None and of_regions is not None:
            place = of_regions.at(rows, ranked.regions.shape[1])
            named = of_regions.shares.any_of(place)
            named_words.append(ranked.regions[named][:, :REGION_DEPTH])
            named_places.append(place[named])
    figures: dict[str, float] = {}
    for name, bank in (("scene", guidance.scene_bank), ("detail", guidance.detail_bank)):
        if parts[name]:
            first = torch.cat(parts[name])
            shares = caption_shares([image.captions for image in images], bank)
            right = _found(first, shares, torch.arange(len(first)), bank)
            figures |= {f"{name}.{key}": value for key, value in _at(right, IMAGE_DEPTH).items()}
    if named_words and of_regions is not None:
        right = _found(torch.cat(named_words), of_regions.shares, torch.cat(named_places), guidance.detail_bank)
        at = _at(right, REGION_DEPTH)
        figures["regions.hit_3"] = right[0].any(1).float().mean().item()
        figures["regions.precision_3"], figures["regions.ceiling_3"] = at["precision_3"], at["ceiling_3"]
    return figures


def _found(
    words: Int[Tensor, "n c"], shares: SparseShares, things: Int[Tensor, " n"], bank: KeywordBank
) -> tuple[Bool[Tensor, "n c"], Int[Tensor, " n"]]:
    """Which of the first words found for each of these things are right, and how many would be."""
    parts = [
        (said.gather(1, words[rows]), said.sum(1))
        for rows in torch.arange(len(words)).split(1000)
        for said in [shares.dense(things[rows], len(bank)) > 0]
    ]
    return torch.cat([hits for hits, _ in parts]), torch.cat([wanted for _, wanted in parts])


def _at(found: tuple[Bool[Tensor, "n c"], Int[Tensor, " n"]], depth: int) -> dict[str, float]:
    hits, wanted = found
    right = hits.sum(1).float()
    some = wanted > 0
    return {
        f"precision_{depth}": (right / depth).mean().item(),
        f"recall_{depth}": (right[some] / wanted[some]).mean().item(),
        f"ceiling_{depth}": (wanted.clamp(max=depth) / depth).mean().item(),
    }
