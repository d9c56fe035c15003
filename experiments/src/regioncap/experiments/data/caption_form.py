"""What captions look like to all that learns from them: as people wrote them, or as the paper's sec. 4.2 has them."""

from dataclasses import dataclass, replace
from typing import Literal

from regioncap.decoder import normalise
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage

Form = Literal["as-written", "normalised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionFormConfig:
    """One form for tokenizer, decoder, text vectors, keyword banks, phrases and retrieval.

    `normalised` is the paper's sec. 4.2: lower case, no punctuation, `<num>` for a number, single spaces.
    """

    captions: Form = "as-written"
    """Training captions. `as-written`: the decoder's tokenizer alone takes case and punctuation away, as it always
    does, and numbers stay."""
    references: Form = "as-written"
    """What captions are scored against: dev and test. The metrics tokenize by themselves, so published scores are
    `as-written`; `normalised` lets a `<num>` match a number."""

    @property
    def numbers(self) -> bool:
        """Whether a number is the token `<num>`, for whoever makes a tokenizer."""
        return self.captions == "normalised"

    def learned(self, text: str) -> str:
        """A caption or phrase as training sees it."""
        return normalise(text, numbers=True) if self.captions == "normalised" else text

    def scored(self, text: str) -> str:
        """A reference as scoring sees it."""
        return normalise(text, numbers=True) if self.references == "normalised" else text

    def apply(self, data: CaptionData) -> CaptionData:
        """The data with its training captions and its references in their form.

        A caption that is nothing but punctuation has no words left and is counted in `skipped`, unless its image has
        no other.
        """
        if self.captions == self.references == "as-written":
            return data
        lost = 0
        splits: dict[str, tuple[CaptionedImage, ...]] = {}
        for split, images in data.splits.items():
            form = self.learned if split == "train" else self.scored
            formed = []
            for image in images:
                texts = [form(caption) for caption in image.captions]
                kept = tuple(filter(None, texts)) or image.captions
                lost += len(texts) - len(kept)
                formed.append(replace(image, captions=kept))
            splits[split] = tuple(formed)
        skipped = {"caption without a word": lost} if lost else {}
        return replace(data, splits=splits, skipped={**data.skipped, **skipped})
