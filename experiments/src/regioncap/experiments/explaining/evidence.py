"""What a captioner chose for a picture, and what it heeded when it said each word of its caption."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from regioncap.decoder import CaptionTokenizer, Explanation, explain
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import CaptionGenerator, Generated
from regioncap.guidance import NoGuidance
from regioncap.guidance.guidance import CLOSED_GATE

CAPTION = "words before"
"""What has the attention that is not on the prefix: bos, a prompt and the words said so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRegion:
    """A region, and what detail guidance calls it."""

    number: int
    """From 1, in the encoder's order."""
    box: tuple[float, float, float, float]
    """x0 y0 x1 y1, fractions of the picture."""
    words: tuple[tuple[str, float], ...]
    """Detail words and their weights, heaviest first."""
    gate: float | None
    """How far the gate of eq. 12 is open, mean over channels; None without detail words."""
    attention: float | None
    """Share of the decoder's attention, mean over the caption's words; None if regions have no tokens of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidWord:
    """A word of the caption, and what was heeded when it was predicted; of several tokens their mean."""

    word: str
    probability: float
    """Of all its tokens."""
    attention: Mapping[str, float]
    """Kind of prefix token -> share of attention, mean over heads and layers; `words before` has the rest."""
    region: int | None
    """The region whose token was heeded most; None if regions have no tokens of their own."""
    gate: float
    """How far the gate of the word bias was open, in [0, 1]."""
    bias: float
    """What the word bias added to its logits, in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it for one picture."""

    caption: str
    scene: tuple[tuple[str, float], ...]
    """Scene words and their weights."""
    keywords: tuple[tuple[str, float], ...]
    """Words of the whole picture; log-odds, or weights where words are found by similarity."""
    keywords_are: str
    """Which of the two: `log-odds` or `weight`."""
    gate: Mapping[str, float]
    """`mean` of the gate of eq. 12 over regions and channels, `closed`, the share below 0.05; empty without it."""
    regions: tuple[SeenRegion, ...]
    words: tuple[SaidWord, ...]

    def record(self) -> dict[str, Any]:
        """For JSON, rounded; words with weights as word -> weight."""
        fields = asdict(self)
        fields |= {name: dict(fields[name]) for name in ("scene", "keywords")}
        fields["regions"] = [region | {"words": dict(region["words"])} for region in fields["regions"]]
        rounded: dict[str, Any] = _rounded(fields)
        return rounded


def gather(
    captioner: Captioner, generator: CaptionGenerator, tokenizer: CaptionTokenizer, generated: Generated
) -> list[Evidence]:
    """The evidence for each picture of a batch."""
    tokens, mask = generator.whole(generated.captions)
    with torch.inference_mode():
        explanation = explain(captioner.decoder, generated.prefix, tokens, mask)
    return [_of_image(captioner, tokenizer, generated, explanation, image) for image in range(len(generated.texts))]


def _of_image(
    captioner: Captioner, tokenizer: CaptionTokenizer, generated: Generated, explanation: Explanation, image: int
) -> Evidence:
    chosen = captioner.guidance.chosen_words(generated.guidance)[image]
    told, names = generated.guidance.keywords, captioner.guidance.keyword_words
    gate = generated.guidance.gate[image]
    length = int(generated.captions.lengths[image, 0])
    of_regions = _region_shares(generated, explanation, image, length)
    valid = generated.regions.valid[image].tolist()
    own = gate[: len(valid)][generated.regions.valid[image]] if len(gate) else gate
    learned = not isinstance(captioner.guidance, NoGuidance) and captioner.guidance.config.retrieval == "learned"
    return Evidence(
        caption=generated.texts[image],
        scene=chosen.scene,
        keywords=tuple(
            (names[row], score)
            for row, score in zip(
                told.words[image][told.valid[image]].tolist(),
                told.scores[image][told.valid[image]].tolist(),
                strict=True,
            )
        ),
        keywords_are="log-odds" if learned else "weight",
        gate=({"mean": own.mean().item(), "closed": (own < CLOSED_GATE).float().mean().item()} if own.numel() else {}),
        regions=tuple(
            SeenRegion(
                number=at + 1,
                box=_box(generated.boxes[image, at]),
                words=chosen.detail[at] if at < len(chosen.detail) else (),
                gate=gate[at].mean().item() if len(gate) else None,
                attention=None if of_regions is None else of_regions[:, at].mean().item(),
            )
            for at, real in enumerate(valid)
            if real
        ),
        words=_said(tokenizer, generated, explanation, of_regions, image, length),
    )


def _said(
    tokenizer: CaptionTokenizer,
    generated: Generated,
    explanation: Explanation,
    of_regions: Tensor | None,
    image: int,
    length: int,
) -> tuple[SaidWord, ...]:
    """The words of the caption without its end; a prompt's are left out."""
    ids = generated.captions.tokens[image, 0, :length]
    begins = explanation.attention.shape[2] - generated.captions.tokens.shape[2]
    kinds = {
        kind: shares[image, begins : begins + length]
        for kind, shares in explanation.by_kind(generated.prefix.slots).items()
    }
    probabilities = generated.captions.log_probs[image, 0, :length].exp()
    openness = explanation.openness[image, begins : begins + length]
    bias = explanation.bias[image, begins : begins + length]
    said = []
    for word, rows in spelt_words(tokenizer, ids):
        attention = {kind: shares[rows].mean().item() for kind, shares in kinds.items()}
        said.append(
            SaidWord(
                word=word,
                probability=probabilities[rows].prod().item(),
                attention=attention | {CAPTION: max(0.0, 1 - sum(attention.values()))},
                region=None if of_regions is None else int(of_regions[rows].mean(0).argmax()) + 1,
                gate=openness[rows].mean().item(),
                bias=bias[rows].sum().item(),
            )
        )
    return tuple(said)


def spelt_words(tokenizer: CaptionTokenizer, ids: Tensor) -> list[tuple[str, list[int]]]:
    """The words that tokens spell, each with the places of its tokens: words may be spelt in pieces."""
    found: list[tuple[str, list[int]]] = []
    for at in range(len(ids)):
        words = tokenizer.decode(ids[: at + 1]).split()
        if int(ids[at]) == tokenizer.eos:
            break
        if len(words) > len(found):
            found.append((words[-1], [at]))
        elif found:
            found[-1] = (words[-1], [*found[-1][1], at])
    return found


def _region_shares(generated: Generated, explanation: Explanation, image: int, length: int) -> Tensor | None:
    """Attention of each token on each region's own token, S N; None if there are none."""
    slots = generated.prefix.slots
    at = next((i for i, (kind, _) in enumerate(slots) if kind == "regions"), None)
    if at is None:
        return None
    first = sum(count for _, count in slots[:at])
    begins = explanation.attention.shape[2] - generated.captions.tokens.shape[2]
    return explanation.shares[image, begins : begins + length, first : first + slots[at][1]]


def _box(box: Tensor) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 4)
        case Mapping():
            return {key: _rounded(own) for key, own in value.items()}
        case str() | int() | None:
            return value
        case Sequence():
            return [_rounded(own) for own in value]
    return value
