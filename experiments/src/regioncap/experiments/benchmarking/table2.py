"""The captioner of Table 2 at its full size, with random weights: what it costs does not depend on what it learned."""

import string
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode
from transformers import CLIPConfig, CLIPModel

from regioncap.decoder import CaptionTokenizer, train_words
from regioncap.encoders import (
    ClipEncoder,
    CompositeEncoder,
    Detector,
    DetectorConfig,
    FasterRcnnEncoder,
    FasterRcnnEncoderConfig,
    SmallBertConfig,
    TextEncoder,
    build_small_bert,
    efficientnet_fpn,
    resnet50_c4,
    resnet50_fpn,
)
from regioncap.encoders.fast_linear import Precision
from regioncap.encoders.preprocessing import Preprocessing
from regioncap.encoders.quiet import quiet_transformers
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.encoders import PaperEncodersSource
from regioncap.experiments.presets import paper
from regioncap.guidance import KeywordBank

IMAGES = 8
"""Images of a batch."""
SIDE = 224
"""Pixels on each side of what the encoders take."""
REGIONS = 36
REGION_DIM = 2048
"""R of `resnet50_c4`."""
VOCABULARY = 50257
BANK = 10_000
"""Words of each bank."""
TOKENS = 20
"""Of a caption: forced, so that every search does the same work."""
PHOTOGRAPH = (640, 480)
"""Width and height of COCO's photographs."""
DetectorKind = Literal["c4", "fpn", "lite0"]
Arithmetic = Literal["float32", "bfloat16"]
_CLASSES = tuple(f"class {i}" for i in range(90))
_DETECTORS: dict[str, Callable[[tuple[str, ...]], DetectorConfig]] = {
    "c4": resnet50_c4,
    "fpn": resnet50_fpn,
    "lite0": efficientnet_fpn,
}


def experiment() -> Experiment:
    """The preset `paper` with a decoder from scratch and captions of `TOKENS` tokens."""
    base = paper()
    return replace(
        base,
        decoder=replace(base.decoder, weights=None),
        search=replace(base.search, max_new_tokens=TOKENS, min_new_tokens=TOKENS),
    )


def clip(side: int = SIDE, precision: Precision | None = None) -> ClipEncoder:
    """CLIP ViT-B/32, its last layers left to the captioner as the preset has it; None is the preset's precision.

    Its text tower has one layer: banks are embedded once, which is no step of the pipeline.
    """
    config = _encoders().clip
    config = replace(config, precision=precision or config.precision)
    torch.manual_seed(0)
    shape = CLIPConfig(
        projection_dim=experiment().dim, vision_config={"image_size": side}, text_config={"num_hidden_layers": 1}
    )
    with quiet_transformers():
        model: nn.Module = CLIPModel(shape)
    return ClipEncoder(config, model=model.eval(), tokenizer=None, preprocessing=clip_preprocessing(side))


def clip_preprocessing(side: int = SIDE) -> Preprocessing:
    """As CLIP's image processor has it."""
    return Preprocessing(
        resize=side,
        resample=InterpolationMode.BICUBIC,
        crop=(side, side),
        mean=(122.77, 116.75, 104.09),
        std=(68.5, 66.63, 70.32),
    )


def detector(
    kind: DetectorKind = "c4", *, side: int = SIDE, precision: Arithmetic | None = None, proposals: int | None = None
) -> FasterRcnnEncoder:
    """A Faster R-CNN that finds `REGIONS` regions in any picture; `precision`, of all of it, is the preset's if None.

    Random boxes and scores would leave some pictures with few regions, so that the work would depend on chance: boxes
    are the anchors here, all classes score alike, and no box suppresses another. The box head gets as many proposals as
    there may be, and every region slot is filled.
    """
    config = _encoders().regions
    assert isinstance(config, FasterRcnnEncoderConfig), "the paper's regions come from a detector"
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        shape = replace(_DETECTORS[kind](_CLASSES), image_size=side)
        untrained = Detector(replace(shape, proposals=proposals or shape.proposals))
        model: Any = untrained.model
        predictor = model.roi_heads.box_predictor
        for layer in (model.rpn.head.bbox_pred, predictor.cls_score, predictor.bbox_pred):
            nn.init.zeros_(layer.weight)
        untrained.save(Path(folder))
        config = replace(config, weights=Path(folder), score_threshold=0.0, nms_threshold=1.0)
        if precision is not None:
            config = replace(config, precision=precision, head_precision=precision)
        encoder = config.build()
    encoder.detector.model.rpn.nms_thresh = 1.0
    return encoder


def encoders(kind: DetectorKind = "c4", precision: Arithmetic | None = None) -> CompositeEncoder:
    """Both image encoders, as the captioner's `Encoders.image` has them; `precision` is the detector's."""
    return CompositeEncoder(clip(), detector(kind, precision=precision))


def bert(precision: Arithmetic = "float32") -> TextEncoder:
    """BERT-base; its vocabulary of 30,522 is made up."""
    with tempfile.TemporaryDirectory() as folder:
        build_small_bert(
            [" ".join(made_up_words(30_518))],
            SmallBertConfig(layers=12, width=768, heads=12, positions=512),
            Path(folder),
        )
        return replace(_encoders().text, weights=folder, precision=precision).build().eval()


def bank(words: int = BANK, dim: int | None = None, skip: int = 0) -> KeywordBank:
    """Made-up words after the first `skip`. Counts fall as words' do in a language: rank r has 1/r of the first's."""
    return KeywordBank(
        words=tuple(made_up_words(skip + words)[skip:]),
        counts=tuple(max(1, 100_000 // (row + 1)) for row in range(words)),
        embeddings=torch.randn(words, dim or experiment().dim, generator=torch.Generator().manual_seed(skip)),
    )


@cache
def tokenizer() -> CaptionTokenizer:
    """As many tokens as GPT-2's, one for each made-up word."""
    made = train_words([" ".join(made_up_words(VOCABULARY - 4))], min_count=1)
    assert len(made) == VOCABULARY
    return made


def captioner(
    whole: ClipEncoder | None = None, region_dim: int = REGION_DIM, settings: Experiment | None = None
) -> Captioner:
    """All from the adapter to GPT-2, in evaluation mode; `whole` lends its last layers."""
    whole = whole or clip()
    settings = settings or experiment()
    return build_captioner(
        settings,
        region_dim=region_dim,
        text_dim=768,
        clip_head=whole.tail,
        tokenizer=tokenizer(),
        scene_bank=bank(),
        detail_bank=bank(skip=BANK),
    ).eval()


def photographs(folder: Path, count: int, size: tuple[int, int] = PHOTOGRAPH) -> list[Path]:
    """Write JPEGs with the structure and the size on disk of photographs: broad shapes, edges and some noise."""
    drawn = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(drawn.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        broad = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        sharp = np.asarray(coarse.resize(size, Image.Resampling.NEAREST), dtype=np.float32)
        noise = drawn.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
        pixels = np.clip(0.7 * broad + 0.3 * sharp + noise, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


def made_up_words(count: int) -> Sequence[str]:
    """Different words of four letters, always the same ones in the same order."""
    return ["".join(letters) for letters in islice(product(string.ascii_lowercase, repeat=4), count)]


def _encoders() -> PaperEncodersSource:
    source = paper().encoders
    assert isinstance(source, PaperEncodersSource)
    return source
