"""All that the arms and seeds of a study share, made once: features, CLIP-style head, tokenizer, banks, text vectors.

It comes from the training split alone; dev is only encoded. Every worker of a study opens the same folder.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from regioncap.decoder import CaptionTokenizer
from regioncap.encoders import ClipHeadConfig, ImageFeatures, ImageTextHead, ImageTextHeadConfig
from regioncap.encoders.store import FeatureStore, open_store
from regioncap.experiments.banks import build_banks, marked_captions
from regioncap.experiments.captioner import HeldOut
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import from_dict, to_dict
from regioncap.experiments.data.boxed_phrases import BoxedPhrases, read_boxed_phrases
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage, DataError
from regioncap.experiments.data.entity_folder import entity_folder
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.features import FeaturesSource
from regioncap.experiments.keywords.supervision import (
    KeywordSupervision,
    fit_keyword_heads,
    load_supervision,
    save_supervision,
)
from regioncap.experiments.training.captions import CaptionTensors, same_count
from regioncap.experiments.training.objectives.objective import Lessons
from regioncap.experiments.vocabulary import tokenizer_key
from regioncap.guidance import KeywordBank, KeywordShares, KeywordTrainingConfig, MarkedCaption, SemanticGuidanceConfig

_INDEX = "index.json"
_TENSORS = "tensors.safetensors"
_HEAD = "clip_head.safetensors"
_KEYWORDS = "keywords"

Phrases = Mapping[str, tuple[BoxedPhrases, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A study's shared inputs, opened from disk. n training images."""

    folder: Path
    train: FeatureStore
    dev: FeatureStore
    train_images: tuple[CaptionedImage, ...]
    dev_images: tuple[CaptionedImage, ...]
    offsets: Tensor
    """n D: cross-fit offsets of the training images (`encoders.cross_fit`)."""
    captions: CaptionTensors
    """Of the training images."""
    clip_head: ImageTextHead
    tokenizer: CaptionTokenizer
    scene_bank: KeywordBank
    detail_bank: KeywordBank
    supervision: KeywordSupervision | None
    """Keyword heads; None where retrieval is by similarity."""

    @property
    def shares(self) -> KeywordShares | None:
        """How frequent words are in training, where keyword heads were taught."""
        return None if self.supervision is None else self.supervision.shares

    @property
    def lessons(self) -> Lessons:
        """What objectives draw from."""
        return Lessons(
            captions=self.captions,
            references=tuple(image.captions for image in self.train_images),
            tokenizer=self.tokenizer,
            scene_bank=self.scene_bank,
            detail_bank=self.detail_bank,
        )

    def to(self, device: torch.device) -> None:
        """Move what is asked about training images at every step, as `nn.Module.to` does: in place."""
        if self.supervision is not None:
            for heads in (self.supervision.heads, *self.supervision.folds):
                heads.to(device)

    def held_out(self, rows: Int[Tensor, "B"]) -> HeldOut:
        """Heads that never saw these training images."""
        words = None if self.supervision is None else partial(self.supervision.held_out, rows)
        return HeldOut(offset=self.offsets[rows], keyword_heads=words)

    def seen(self, rows: Int[Tensor, "B"]) -> tuple[ImageFeatures, HeldOut]:
        """Training images as a captioner meets them in training: `captioner.condition(*prepared.seen(rows))`."""
        return self.train.images(rows), self.held_out(rows)

    @property
    def text_dim(self) -> int:
        """Width of the text encoder's vectors."""
        return int(self.captions.text.shape[-1])


def dev_split(data: CaptionData) -> str:
    """The split that choices are made on: `dev`, or `val` as COCO names it. Raises DataError if there is neither."""
    for name in ("dev", "val"):
        if name in data.splits:
            return name
    raise DataError(f"{data.root} has no 'dev' or 'val' split to choose on; it has {', '.join(data.splits)}")


def prepare(
    experiment: Experiment,
    data: CaptionData,
    encoders: Encoders,
    cache: Path,
    features: FeaturesSource | None = None,
) -> Prepared:
    """Make what is missing under `cache` and open it. `features` None encodes into `cache`.

    Raises DataError naming an image without caption or, unless they are to be left out, images that do not decode.
    """
    features = features or FeaturesSource(cache=cache)
    train_images, dev_images = data.split("train"), data.split(dev_split(data))
    for image in (*train_images, *dev_images):
        if not image.captions:
            raise DataError(f"{image.path} has no caption: add one to the caption file or take it out of its split")
    train, train_images = features.open(train_images, encoders.image, "train")
    dev, dev_images = features.open(dev_images, encoders.image, dev_split(data))
    captions = [caption for image in train_images for caption in image.captions]
    text = experiment.data.text
    tokenizer = experiment.vocabulary.tokenizer(captions, experiment.decoder.weights, numbers=text.numbers)

    def said_of(asking: Experiment) -> tuple[Sequence[MarkedCaption], Phrases | None, Path]:
        """What people said of the training images, as far as it is asked for, and the folder of what comes of it."""
        entities = entity_folder(data, cache) if _asks_for_phrases(asking) else data.root
        marked = marked_captions(asking.banks, entities, train_images, text.learned)
        phrases = boxed_phrases(asking, entities, train_images)
        key = _key(asking, tokenizer, encoders.key, train, dev, train_images, dev_images, marked, phrases)
        return marked, phrases, cache / "prepared" / key

    marked, phrases, folder = said_of(experiment)
    if not (folder / _INDEX).exists() and not learns_keywords(experiment):
        # An arm without words, alone: the study that it belongs to prepared the same with keyword heads beside it. Data
        # without the boxes that heads would ask for have no such study, and this arm does not miss them.
        with suppress(DataError):
            richer = said_of(replace(experiment, guidance=SemanticGuidanceConfig(retrieval="learned")))[-1]
            folder = richer if (richer / _INDEX).exists() else folder
    if not (folder / _INDEX).exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(experiment, tokenizer, train, train_images, marked, phrases, encoders, partial)
        index = {
            "train": _index_of(train, train_images),
            "dev": _index_of(dev, dev_images),
            "pooled_dim": train.pooled_dim,
            "keywords": to_dict(experiment.keywords.training) if learns_keywords(experiment) else None,
        }
        (partial / _INDEX).write_text(json.dumps(index))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return open_prepared(folder)


def open_prepared(folder: Path) -> Prepared:
    """Open what `prepare` wrote."""
    index = json.loads((folder / _INDEX).read_text())
    tensors = load_file(folder / _TENSORS)
    train = open_store(Path(index["train"]["store"]))
    scene_bank, detail_bank = (KeywordBank.load(folder / "banks" / name) for name in ("scene", "detail"))
    supervision = None
    if index["keywords"] is not None:
        supervision = load_supervision(
            folder / _KEYWORDS,
            from_dict(KeywordTrainingConfig, index["keywords"], "keywords.training"),
            pooled_dim=train.pooled_dim,
            region_dim=train.region_dim,
            scene_bank=scene_bank,
            detail_bank=detail_bank,
        )
    return Prepared(
        folder=folder,
        train=train,
        dev=open_store(Path(index["dev"]["store"])),
        train_images=_images_of(index["train"]),
        dev_images=_images_of(index["dev"]),
        offsets=tensors["offsets"],
        captions=CaptionTensors(tokens=tensors["tokens"], mask=tensors["mask"], text=tensors["text"]),
        clip_head=load_head(folder),
        tokenizer=CaptionTokenizer.load(folder / "tokenizer"),
        scene_bank=scene_bank,
        detail_bank=detail_bank,
        supervision=supervision,
    )


def learns_keywords(experiment: Experiment) -> bool:
    """Whether the study's captioners choose words by keyword heads."""
    return isinstance(experiment.guidance, SemanticGuidanceConfig) and experiment.guidance.retrieval == "learned"


def boxed_phrases(experiment: Experiment, root: Path, images: Sequence[CaptionedImage]) -> Phrases | None:
    """The phrases of the training images' boxes, if keyword heads learn from them."""
    if not _learns_from_boxes(experiment):
        return None
    return read_boxed_phrases(root, {image.name for image in images}, experiment.data.text.learned)


def _learns_from_boxes(experiment: Experiment) -> bool:
    return learns_keywords(experiment) and experiment.keywords.regions != "captions"


def _asks_for_phrases(experiment: Experiment) -> bool:
    return experiment.banks.source == "phrases" or _learns_from_boxes(experiment)


def save_head(head: ImageTextHead, folder: Path) -> None:
    """Write a head and its shape."""
    save_file(head.state_dict(), folder / _HEAD)
    shape = {
        "pooled_dim": head.pooled_dim,
        "text_dim": head.text_dim,
        "dim": head.dim,
        "config": to_dict(head.config),
    }
    (folder / "clip_head.json").write_text(json.dumps(shape, indent=1))


def load_head(folder: Path) -> ImageTextHead:
    """The inverse of `save_head`."""
    shape = json.loads((folder / "clip_head.json").read_text())
    kinds = {kind.__name__: kind for kind in get_args(ImageTextHeadConfig)}
    config = from_dict(kinds.get(shape["config"]["type"], ClipHeadConfig), shape["config"], "clip_head")
    head: ImageTextHead = config.build(shape["pooled_dim"], shape["text_dim"], shape["dim"])
    head.load_state_dict(load_file(folder / _HEAD))
    return head


def _key(
    experiment: Experiment,
    tokenizer: CaptionTokenizer,
    encoders: str,
    train: FeatureStore,
    dev: FeatureStore,
    train_images: Sequence[CaptionedImage],
    dev_images: Sequence[CaptionedImage],
    marked: Sequence[MarkedCaption],
    phrases: Phrases | None,
) -> str:
    """A digest of all that decides what `_write` writes."""
    parts: list[Any] = [
        experiment.dim,
        encoders,
        to_dict(experiment.encoders),
        experiment.vocabulary.max_tokens,
        tokenizer_key(tokenizer),  # the same words, from wherever they come, give the same inputs
        to_dict(experiment.banks),
        str(train.folder.resolve()),
        str(dev.folder.resolve()),
        [[image.name, *image.captions] for image in (*train_images, *dev_images)],
        sorted({str(image.path.parent.resolve()) for image in (*train_images, *dev_images)}),
        [[caption.text, caption.scene, caption.detail] for caption in marked],
    ]
    if learns_keywords(experiment):
        # Whoever is asked about new pictures, the same heads are taught.
        parts.append({name: said for name, said in to_dict(experiment.keywords).items() if name != "new_images"})
        parts.append(phrases and {name: [[own.box, own.phrases] for own in boxes] for name, boxes in phrases.items()})
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _write(
    experiment: Experiment,
    tokenizer: CaptionTokenizer,
    train: FeatureStore,
    images: Sequence[CaptionedImage],
    marked: Sequence[MarkedCaption],
    phrases: Phrases | None,
    encoders: Encoders,
    folder: Path,
) -> None:
    captions = same_count([image.captions for image in images])
    flat = [caption for own in captions for caption in own]
    tokenizer.save(folder / "tokenizer")
    encoded = tokenizer.encode(flat, max_tokens=experiment.vocabulary.max_tokens)
    per_image = (len(images), len(captions[0]))
    text = encoders.text.embed(flat).unflatten(0, per_image)  # n C T2
    head, offsets = encoders.fit_head(train.pooled(), text, experiment.dim)
    save_head(head, folder)
    own = [caption for image in images for caption in image.captions]  # `flat` repeats some, which would count twice
    scene, detail = build_banks(experiment.banks, own, marked, encoders.keywords, head)
    scene.save(folder / "banks" / "scene")
    detail.save(folder / "banks" / "detail")
    if learns_keywords(experiment):
        supervision = fit_keyword_heads(experiment.keywords.training, train, images, phrases, scene, detail)
        save_supervision(supervision, folder / _KEYWORDS)
    save_file(
        {
            "offsets": offsets.contiguous(),
            "tokens": encoded.tokens.unflatten(0, per_image).contiguous(),
            "mask": encoded.mask.unflatten(0, per_image).contiguous(),
            "text": text.half().contiguous(),
        },
        folder / _TENSORS,
    )


def _index_of(store: FeatureStore, images: Sequence[CaptionedImage]) -> dict[str, Any]:
    rows = [{"name": image.name, "path": str(image.path.resolve()), "captions": image.captions} for image in images]
    return {"store": str(store.folder.resolve()), "images": rows}


def _images_of(index: dict[str, Any]) -> tuple[CaptionedImage, ...]:
    return tuple(
        CaptionedImage(name=row["name"], path=Path(row["path"]), captions=tuple(row["captions"]))
        for row in index["images"]
    )
