"""Edits to measure steering by: one drawn word a picture and kind of edit."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from regioncap.decoder import CaptionTokenizer
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.generate import Generated
from regioncap.experiments.steering.edits import PLACE_WORDS, Sheet, Steerer
from regioncap.experiments.steering.lookup import Entry, Wanted, spelling
from regioncap.guidance import SemanticGuidance
from regioncap.guidance.lexicon import ATTRIBUTES, COLOURS, SCENE


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One edit of one picture."""

    image: str
    word: str
    true: bool
    """Whether a reference caption says the word."""
    sheet: Sheet


class Trials:
    """Draws the edits of a batch's pictures.

    Words that the pictures do not show: `add colour`, `add object`, `add scene`, the same place by `--scene` and the
    same object by `--region`. `add true word` is the control: what people said and the captioner did not. `drop`
    takes a word that guidance chose and the caption says. Words are drawn by their frequency in the training captions.
    """

    KINDS = (
        "add colour", "add object", "add scene", "be elsewhere", "rename region", "add true word", "drop",
    )  # fmt: skip

    def __init__(self, captioner: Captioner, tokenizer: CaptionTokenizer, seed: int) -> None:
        assert isinstance(captioner.guidance, SemanticGuidance)
        self._captioner, self._tokenizer, self._seed = captioner, tokenizer, seed
        self._banks = {
            name: bank
            for name, bank in (("scene", captioner.guidance.scene_bank), ("detail", captioner.guidance.detail_bank))
            if name in captioner.guidance.config.scales
        }
        self._counts: dict[str, int] = {}
        """Of the words that the decoder can say."""
        for bank in self._banks.values():
            for word, count in zip(bank.words, bank.counts, strict=True):
                if spelling(word, tokenizer):
                    self._counts[word] = max(count, self._counts.get(word, 0))

        self._forms = {word: f" {tokenizer.normalise(word)} " for word in self._counts}

    def of(self, kind: str, before: Generated, image: int, picture: CaptionedImage) -> Trial | None:
        """The edit of a kind for a picture of a batch; None where no word is fit for it."""
        said = self._words([before.texts[image]])
        true = self._words(picture.captions)
        fit = {word for word in self._named(kind, said, true, before, image) if self._counts.get(word)}
        if kind == "rename region" and not bool(before.regions.valid[image, :1].any()):
            return None
        generator = random.Random(f"{self._seed} {kind} {picture.name}")
        if not fit:
            return None
        words = sorted(fit)
        word = generator.choices(words, [self._counts[word] for word in words])[0]
        steerer = Steerer(self._captioner, self._wanted(kind, word), 1.0)
        return Trial(image=picture.name, word=word, true=word in true, sheet=steerer.sheet(before, image, picture.name))

    def says(self, caption: str, word: str) -> bool:
        """Whether a caption has the word."""
        return self._forms[word] in f" {self._tokenizer.normalise(caption)} "

    def _words(self, captions: Sequence[str]) -> set[str]:
        """The bank words in captions."""
        texts = [f" {self._tokenizer.normalise(caption)} " for caption in captions]
        return {word for word, form in self._forms.items() if any(form in text for text in texts)}

    def _named(self, kind: str, said: set[str], true: set[str], before: Generated, image: int) -> set[str]:
        scene, detail = (set(self._banks[name].words) if name in self._banks else set() for name in ("scene", "detail"))
        new = set(self._counts) - said - true
        match kind:
            case "add colour":
                return detail & COLOURS & new
            case "add object" | "rename region":
                return (detail - ATTRIBUTES - SCENE) & new
            case "add scene":
                return scene & new
            case "be elsewhere":
                return scene & PLACE_WORDS & new
            case "add true word":
                return true - said
        assert kind == "drop"
        return said & chosen_names(self._captioner, before, image)

    def _wanted(self, kind: str, word: str) -> Wanted:
        entry = Entry(word=word, **{name: self._row(name, word) for name in ("scene", "detail")})
        return Wanted(
            add=(entry,) if kind.startswith("add") else (),
            drop=(entry,) if kind == "drop" else (),
            scene=(entry,) if kind == "be elsewhere" else (),
            regions={1: (entry,)} if kind == "rename region" else {},
            embedded=(),
        )

    def _row(self, name: str, word: str) -> int | None:
        bank = {str(scale): own for scale, own in self._banks.items()}.get(name)
        return None if bank is None else bank.find(word)


def chosen_names(captioner: Captioner, generated: Generated, image: int) -> set[str]:
    """Every word that guidance chose for a picture, on whatever scale."""
    chosen = captioner.guidance.chosen_words(generated.guidance)[image]
    told = generated.guidance.keywords
    names = {captioner.guidance.keyword_words[row] for row in told.words[image][told.valid[image]].tolist()}
    return names | {word for words in (chosen.scene, *chosen.detail) for word, _ in words}
