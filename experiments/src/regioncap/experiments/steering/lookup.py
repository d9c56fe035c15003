"""Where the words of a user stand in the keyword banks; those of no bank join one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from jaxtyping import Float
from torch import Tensor

from regioncap.decoder import CaptionTokenizer
from regioncap.encoders import ClipText, TextEncoder
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.checkpoint import Checkpoint
from regioncap.experiments.steering.options import SteeringOptions
from regioncap.guidance import BankError, KeywordBank, SemanticGuidance
from regioncap.guidance.lexicon import SCENE

SLIP = 0.8
"""Likeness to a bank word, of difflib's 0 to 1, from which a word of several pieces is taken for a slip."""


class SteeringError(ValueError):
    """An edit that cannot be made; the message says which, and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A word by its row in each bank."""

    word: str
    scene: int | None
    detail: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A user's words, found. Those of `scene` have a scene row, those of `regions` a detail row."""

    add: tuple[Entry, ...]
    drop: tuple[Entry, ...]
    scene: tuple[Entry, ...]
    regions: Mapping[int, tuple[Entry, ...]]
    """By the region's number, from 1."""
    embedded: tuple[str, ...]
    """Words of no bank, embedded for this."""


def find_words(
    options: SteeringOptions, checkpoint: Checkpoint, text: TextEncoder | ClipText
) -> tuple[Wanted, Checkpoint]:
    """The words in the banks, and the checkpoint with the words that its banks lacked.

    Raises SteeringError if the checkpoint's guidance cannot be steered so, BankError for a word that is a slip.
    """
    scales = check_steerable(checkpoint)
    if options.scenes and "scene" not in scales:
        raise SteeringError(
            "--scene needs scene words, but this checkpoint's guidance has detail words alone: use --add"
        )
    if options.regions and "detail" not in scales:
        raise SteeringError(
            "--region needs detail words, but this checkpoint's guidance has scene words alone: use --add"
        )
    new: dict[str, list[str]] = {"scene": [], "detail": []}
    of_regions = [word for words in options.regions.values() for word in words]
    for words, banks in (
        (options.scenes, ("scene",)),
        (of_regions, ("detail",)),
        ((*options.added, *options.dropped), scales),
    ):
        for word in words:
            if all(_bank(checkpoint, name).find(word) is None and word not in new[name] for name in banks):
                home = _home(word) if len(banks) > 1 else banks[0]
                check_word(word, checkpoint.tokenizer, {name: _bank(checkpoint, name) for name in banks})
                new[home].append(word)
    checkpoint = with_words(checkpoint, new["scene"], new["detail"], text)

    def entries(words: Iterable[str]) -> tuple[Entry, ...]:
        return tuple(
            Entry(
                word=word,
                scene=checkpoint.scene_bank.find(word) if "scene" in scales else None,
                detail=checkpoint.detail_bank.find(word) if "detail" in scales else None,
            )
            for word in words
        )

    wanted = Wanted(
        add=entries(options.added),
        drop=entries(options.dropped),
        scene=entries(options.scenes),
        regions={number: entries(words) for number, words in options.regions.items()},
        embedded=(*new["scene"], *new["detail"]),
    )
    return wanted, checkpoint


def check_word(word: str, tokenizer: CaptionTokenizer, banks: Mapping[str, KeywordBank]) -> None:
    """Raise BankError, with the nearest words of `banks`, unless the decoder can say a word that is in none of them.

    Each part of a phrase must be spelt in one token, or be no slip of a bank word: pieces of words can spell any slip.
    """
    parts = tokenizer.normalise(word).split()
    for part in parts:
        pieces = spelling(part, tokenizer)
        if not pieces or (len(pieces) > 1 and max(_likeness(part, bank) for bank in banks.values()) >= SLIP):
            raise _unknown(part, tokenizer, banks)
    if not parts:
        raise _unknown(word, tokenizer, banks)


def spelling(word: str, tokenizer: CaptionTokenizer) -> tuple[int, ...]:
    """The tokens of a word in the middle of a caption; none if the decoder cannot say it."""
    spelt = (tokenizer.spellings(word) or ((),))[-1]
    return () if set(spelt) & set(tokenizer.unspoken) else spelt


def with_words(
    checkpoint: Checkpoint, scene: Sequence[str], detail: Sequence[str], text: TextEncoder | ClipText
) -> Checkpoint:
    """The checkpoint with more words in its banks, embedded by its own towers; nothing else of it changes."""
    if not scene and not detail:
        return checkpoint
    old = checkpoint.captioner

    def encode(words: Sequence[str]) -> Float[Tensor, "W D"]:
        return old.clip_head.embed_text(text.embed(words))

    scene_bank = checkpoint.scene_bank.with_words(scene, encode)
    detail_bank = checkpoint.detail_bank.with_words(detail, encode)
    captioner = build_captioner(
        checkpoint.experiment,
        region_dim=checkpoint.region_dim,
        text_dim=checkpoint.text_dim,
        clip_head=old.clip_head,
        tokenizer=checkpoint.tokenizer,
        scene_bank=scene_bank,
        detail_bank=detail_bank,
        decoder=old.decoder,
    )
    captioner.load_state_dict(old.state_dict())
    return replace(checkpoint, captioner=captioner.eval(), scene_bank=scene_bank, detail_bank=detail_bank)


def check_steerable(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The scales of the checkpoint's guidance. Raises SteeringError if it has no words, or not its pictures' own."""
    guidance = checkpoint.captioner.guidance
    if not isinstance(guidance, SemanticGuidance):
        raise SteeringError(
            "this checkpoint has no guidance, so there are no words to edit: take one of an arm with words, such as "
            "+graph+guidance"
        )
    if guidance.config.words_of != "own":
        raise SteeringError(
            "this checkpoint tells every picture another one's words (a control): steer one of another arm"
        )
    return guidance.config.scales


def _bank(checkpoint: Checkpoint, name: str) -> KeywordBank:
    return checkpoint.scene_bank if name == "scene" else checkpoint.detail_bank


def _home(word: str) -> str:
    """The bank that a new word joins: by its last part, "football field" is a place and "field mouse" is none."""
    return "scene" if word.split()[-1] in SCENE else "detail"


def _likeness(word: str, bank: KeywordBank) -> float:
    nearest = bank.nearest_words(word, 1)
    return SequenceMatcher(None, word, nearest[0]).ratio() if nearest else 0.0


def _unknown(part: str, tokenizer: CaptionTokenizer, banks: Mapping[str, KeywordBank]) -> BankError:
    name = max(banks, key=lambda name: _likeness(part, banks[name]))
    error = banks[name].unknown(part, name)
    return error if spelling(part, tokenizer) else BankError(f"{error}; nor can the decoder say it")
