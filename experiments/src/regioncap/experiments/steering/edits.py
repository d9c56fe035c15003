"""From a user's words to edits of one batch: which rows of the banks are added and dropped, picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regioncap.decoder import NoWordBias
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import Generated
from regioncap.experiments.steering.lookup import Entry, SteeringError, Wanted
from regioncap.guidance import SemanticGuidance, Steering
from regioncap.guidance.lexicon import ATTRIBUTES, PLACES, STRUCTURES, SURFACES

PLACE_WORDS = PLACES | STRUCTURES | SURFACES | {"snow", "snowy", "icy", "muddy", "dusty"}
"""What a picture cannot be in once it is said to be elsewhere; light, weather and activities may go on there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One word that was added or dropped."""

    word: str
    change: Literal["added", "dropped"]
    region: int | None
    """The region's number, from 1; None is the whole picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEdits:
    """What is edited in each picture of a batch."""

    steering: Steering
    edits: tuple[tuple[Edit, ...], ...]
    notes: tuple[tuple[str, ...], ...]
    """What a user should know of the edits of a picture, a line each."""


class Steerer:
    """Makes the edits that a user wants of any batch; what they replace depends on what guidance chose unsteered."""

    def __init__(self, captioner: Captioner, wanted: Wanted, strength: float) -> None:
        assert isinstance(captioner.guidance, SemanticGuidance)
        self._captioner, self._guidance = captioner, captioner.guidance
        self._wanted, self._strength = wanted, strength

    def __call__(self, before: Generated, names: Sequence[str]) -> BatchEdits:
        """The edits of pictures, `names`, of which guidance chose the words in `before`.

        Raises SteeringError naming the picture that does not have a region of a number.
        """
        sheets = [self.sheet(before, image, name) for image, name in enumerate(names)]
        return BatchEdits(
            steering=steering_of(sheets, self._strength, before.regions.valid.shape[1]),
            edits=tuple(tuple(dict.fromkeys(sheet.edits)) for sheet in sheets),
            notes=tuple(tuple(sheet.notes) for sheet in sheets),
        )

    def sheet(self, before: Generated, image: int, name: str) -> "Sheet":
        """The edits of one picture of the batch."""
        wanted = self._wanted
        chosen = _Chosen.of(self._guidance, before, image)
        sheet = Sheet(self._guidance, chosen.valid)
        for entry in wanted.drop:
            sheet.edit(entry, "dropped")
            if entry.scene not in chosen.scene and entry.detail not in chosen.detail:
                sheet.notes.append(f"guidance had not chosen '{entry.word}'; it is set against all the same")
        self._replace_places(sheet, chosen)
        for number, entries in wanted.regions.items():
            self._replace_region(sheet, chosen, number, entries, name)
        for entry in (*wanted.add, *wanted.scene):
            sheet.edit(entry, "added")
        dropped = any(edit.change == "dropped" for edit in sheet.edits)
        if dropped and isinstance(self._captioner.decoder.word_bias, NoWordBias):
            sheet.notes.append(
                "this captioner has no word bias: dropped words leave guidance and may still be said; "
                "--search.bad-words forbids them"
            )
        sheet.notes += [f"'{word}' is in no keyword bank; it was embedded now" for word in wanted.embedded]
        return sheet

    def _replace_places(self, sheet: "Sheet", chosen: "_Chosen") -> None:
        """Drop the places that were chosen of the picture, if it is said to be elsewhere."""
        if not self._wanted.scene:
            return
        for row in chosen.scene:
            sheet.drop_place(self._guidance.scene_bank.words[row])
        for row in chosen.told:
            sheet.drop_place(self._guidance.detail_bank.words[row])

    def _replace_region(
        self, sheet: "Sheet", chosen: "_Chosen", number: int, entries: Sequence[Entry], name: str
    ) -> None:
        """Only the named words on the region, and of its own those of another kind; what it alone showed is gone."""
        if not 1 <= number <= len(chosen.valid) or not chosen.valid[number - 1]:
            raise SteeringError(
                f"{name} has no region {number}: it has {int(chosen.valid.sum())}, numbered from 1 as --overlay DIR "
                "shows them"
            )
        words = self._guidance.detail_bank.words
        kinds = {_is_attribute(entry.word) for entry in entries}
        own = chosen.regions[number - 1]
        elsewhere = set().union(*(rows for at, rows in enumerate(chosen.regions) if at != number - 1))
        replaced = [row for row in own if _is_attribute(words[row]) in kinds]
        sheet.regions[number - 1] = -1
        sheet.regions[number - 1, [row for row in own if row not in replaced]] = 0
        for entry in entries:
            assert entry.detail is not None
            sheet.regions[number - 1, entry.detail] = 1
            sheet.detail[entry.detail] = 1
            sheet.edits.append(Edit(word=entry.word, change="added", region=number))
        named = {entry.detail for entry in entries}
        for row in replaced:
            if row in named:
                continue
            sheet.edits.append(Edit(word=words[row], change="dropped", region=number))
            if row not in elsewhere and sheet.detail[row] == 0:
                sheet.detail[row] = -1


class Sheet:
    """The edits of one picture: later ones overrule earlier ones."""

    def __init__(self, guidance: SemanticGuidance, valid: Tensor) -> None:
        self.scene = torch.zeros(len(guidance.scene_bank), dtype=torch.int8)
        self.detail = torch.zeros(len(guidance.detail_bank), dtype=torch.int8)
        self.regions = torch.zeros(len(valid), len(guidance.detail_bank), dtype=torch.int8)
        self.edits: list[Edit] = []
        self.notes: list[str] = []
        self._guidance = guidance

    def edit(self, entry: Entry, change: Literal["added", "dropped"]) -> None:
        """Edit a word of the whole picture; dropped, it takes along those that say it ("t-shirt" for "shirt")."""
        banks = self._guidance.scene_bank, self._guidance.detail_bank
        for bank, rows, row in zip(banks, (self.scene, self.detail), (entry.scene, entry.detail), strict=True):
            if row is not None:
                rows[row] = 1 if change == "added" else -1
            if change == "dropped":
                rows[[at for at, word in enumerate(bank.words) if entry.word in _parts(word)]] = -1
        self.edits = [edit for edit in self.edits if (edit.word, edit.region) != (entry.word, None)]
        self.edits.append(Edit(word=entry.word, change=change, region=None))

    def drop_place(self, word: str) -> None:
        """Drop a word in both banks if it is a place."""
        if word in PLACE_WORDS:
            banks = self._guidance.scene_bank, self._guidance.detail_bank
            self.edit(Entry(word=word, scene=banks[0].find(word), detail=banks[1].find(word)), "dropped")


def steering_of(sheets: Sequence[Sheet], strength: float, slots: int) -> Steering:
    """The edits of a batch's pictures as guidance takes them, for a batch of so many region slots.

    A batch has as many as its richest picture: slots that a picture gains or loses by its company are padding.
    """
    return Steering(
        scene=torch.stack([sheet.scene for sheet in sheets]),
        detail=torch.stack([sheet.detail for sheet in sheets]),
        regions=torch.stack([_of_width(sheet.regions, slots) for sheet in sheets]),
        strength=strength,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """Rows of the banks that guidance chose of one picture."""

    scene: tuple[int, ...]
    """Of the picture, as scene words or as keywords."""
    told: tuple[int, ...]
    """Detail words among the picture's keywords."""
    regions: tuple[frozenset[int], ...]
    """Detail words of each region."""
    valid: Tensor

    @property
    def detail(self) -> frozenset[int]:
        """Of the picture and of its regions."""
        return frozenset(self.told).union(*self.regions)

    @classmethod
    def of(cls, guidance: SemanticGuidance, before: Generated, image: int) -> "_Chosen":
        told = before.guidance
        rows = told.keywords.words[image][told.keywords.valid[image]].tolist()
        scene_words = len(guidance.scene_bank) if "scene" in guidance.config.scales else 0
        used = told.scene_weights[image] > 0
        scene = [*told.scene_words[image][used].tolist(), *(row for row in rows if row < scene_words)]
        return cls(
            scene=tuple(dict.fromkeys(scene)),
            told=tuple(row - scene_words for row in rows if row >= scene_words),
            regions=tuple(
                frozenset(words[weights > 0].tolist())
                for words, weights in zip(told.detail_words[image], told.detail_weights[image], strict=True)
            ),
            valid=before.regions.valid[image],
        )


def _of_width(rows: Tensor, slots: int) -> Tensor:
    kept = rows[:slots]
    return torch.cat([kept, kept.new_zeros(slots - len(kept), kept.shape[1])])


def _parts(word: str) -> list[str]:
    return word.replace("-", " ").split()


def _is_attribute(word: str) -> bool:
    return word in ATTRIBUTES
