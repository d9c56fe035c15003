"""A study small enough for a test: scenes with encoders of almost no width, prepared once for all tests."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regioncap.decoder import Gpt2DecoderConfig, SearchConfig, TokenPrefixConfig
from regioncap.encoders import ClipHeadConfig, DetectorConfig, DetectorTrainingConfig, SmallBertConfig, load_detector
from regioncap.experiments.arms import ARMS
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment, VocabularyConfig
from regioncap.experiments.data.dataset import CaptionData
from regioncap.experiments.data.scenes import KINDS, ScenesConfig, make_scenes
from regioncap.experiments.data.sources import ScenesSource, read_data
from regioncap.experiments.encoders import Encoders, ScenesEncodersSource
from regioncap.experiments.phases import PhaseConfig, TrainConfig
from regioncap.experiments.prepare import Prepared, prepare
from regioncap.experiments.presets import scenes
from regioncap.experiments.scenes_alignment import AlignmentConfig
from regioncap.experiments.scenes_encoders import ScenesEncodersConfig, train_scenes_encoders
from regioncap.graph import RegionGraphConfig
from regioncap.guidance import SemanticGuidanceConfig

TINY = ScenesConfig(train=24, val=8, test=4)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def scenes_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes encoders after one step each. The detector's scores are spread, so that it finds several regions."""
    out = tmp_path_factory.mktemp("weights")
    train_scenes_encoders(
        ScenesEncodersConfig(
            out=out,
            scenes=ScenesConfig(train=8, val=4, test=1, seed=77),
            detector=DetectorConfig(
                classes=KINDS, image_size=64, channels=8, blocks=0, head_dim=16, proposals_before_nms=30, proposals=20
            ),
            detector_training=DetectorTrainingConfig(steps=1, batch_size=2),
            bert=SmallBertConfig(layers=1, width=16, heads=2),
            head=ClipHeadConfig(layers=3, hidden=24),
            dim=32,
            alignment=AlignmentConfig(steps=1, batch_size=4),
        )
    )
    detector = load_detector(out)
    predictor = detector.model.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        predictor.weight.mul_(60.0)
        predictor.bias[0] = -30.0  # hardly anything is background
    detector.save(out)
    return out


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(TINY, tmp_path_factory.mktemp("data") / "scenes").root


@pytest.fixture(scope="session")
def tiny(scenes_weights: Path, scenes_root: Path) -> Experiment:
    """The scenes preset with every width cut down."""
    return replace(
        scenes(),
        data=ScenesSource(root=scenes_root, scenes=TINY),
        encoders=ScenesEncodersSource(weights=scenes_weights),
        dim=32,
        vocabulary=VocabularyConfig(min_count=1, max_tokens=24),
        banks=KeywordBanksConfig(min_count=2, max_scene=8, max_detail=20),
        graph=RegionGraphConfig(k=2, metric="spatial", layers=1, heads=2),
        guidance=SemanticGuidanceConfig(scene_words=2, detail_words=2),
        prefix=TokenPrefixConfig(tokens=2, hidden=32),
        decoder=Gpt2DecoderConfig(layers=1, heads=2, width=32, positions=64, dropout=0.0),
        phase1=PhaseConfig(share=0.5),
        phase2=PhaseConfig(share=0.5, clip_layers=2),
        train=TrainConfig(steps=4, images_per_step=4, evaluations=1, evaluation_images=4),
        search=SearchConfig(greedy_tokens=1, beams=2, max_new_tokens=8),
    )


@pytest.fixture(scope="session")
def data(tiny: Experiment, cache: Path) -> CaptionData:
    return read_data(tiny.data, cache)


@pytest.fixture(scope="session")
def built(tiny: Experiment) -> Encoders:
    return tiny.encoders.build()


@pytest.fixture(scope="session")
def prepared(tiny: Experiment, data: CaptionData, built: Encoders, cache: Path) -> Prepared:
    return prepare(tiny, data, built, cache)


@pytest.fixture(scope="session")
def captions(prepared: Prepared) -> Sequence[str]:
    """All training captions, in order."""
    return [caption for image in prepared.train_images for caption in image.captions]


@pytest.fixture(scope="session")
def make_captioner(tiny: Experiment, prepared: Prepared) -> Callable[[str], Captioner]:
    """A fresh captioner of an arm, in evaluation mode, its keyword statistics fitted as training does."""

    def make(arm: str) -> Captioner:
        captioner = build_captioner(
            ARMS[arm].make(tiny),
            region_dim=prepared.train.region_dim,
            text_dim=prepared.text_dim,
            clip_head=prepared.clip_head,
            tokenizer=prepared.tokenizer,
            scene_bank=prepared.scene_bank,
            detail_bank=prepared.detail_bank,
        ).eval()
        pooled = prepared.train.images(torch.arange(len(prepared.train))).pooled
        with torch.no_grad():
            captioner.guidance.calibrate(captioner.embed_image(pooled, prepared.offsets))
        return captioner

    return make
