"""One object that says all of an experiment. Field names are the command line's flags and MLflow's keys."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from regioncap.decoder import (
    FusedPrefixConfig,
    Gpt2DecoderConfig,
    MlpMappingConfig,
    SearchConfig,
    TokenPrefixConfig,
    TransformerMappingConfig,
)
from regioncap.encoders import ClipLoraConfig
from regioncap.experiments.adapter import AdapterConfig, NoRegionsConfig
from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.data.sources import DataSource
from regioncap.experiments.encoders import PaperEncodersSource, PhotoEncodersSource, ScenesEncodersSource
from regioncap.experiments.keywords.config import KeywordSupervisionConfig
from regioncap.experiments.language import LanguageConfig
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.images import TrainingImagesConfig
from regioncap.experiments.training.objectives.caption import CaptionObjectiveConfig
from regioncap.experiments.training.objectives.self_critical import SelfCriticalConfig
from regioncap.experiments.training.phases import PhaseConfig, check_phases
from regioncap.experiments.vocabulary import VocabularyConfig
from regioncap.graph import FusionConfig, GlobalOnlyConfig, NoGraphConfig, RegionGraphConfig
from regioncap.guidance import NoGuidanceConfig, SemanticGuidanceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Data, stages from left to right, objectives, training and search of one captioner."""

    preset: tyro.conf.Suppress[str]
    """The preset this started from; names the study."""
    data: DataSource
    """The preset's unless `--data KIND` names another: flickr8k, flickr30k, coco, folder or scenes."""
    encoders: ScenesEncodersSource | PhotoEncodersSource | PaperEncodersSource
    dim: int
    """D, the joint width of regions, words and the fused vector."""
    images: TrainingImagesConfig = field(default_factory=TrainingImagesConfig)
    """Whether training takes stored features or encodes pictures at every step."""
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    banks: KeywordBanksConfig = field(default_factory=KeywordBanksConfig)
    keywords: KeywordSupervisionConfig = field(default_factory=KeywordSupervisionConfig)
    """What teaches keyword heads, for learned retrieval."""
    language: LanguageConfig = field(default_factory=LanguageConfig)
    """Whether the decoder first learns its language from text alone."""
    adapter: AdapterConfig | NoRegionsConfig = field(default_factory=AdapterConfig)
    graph: RegionGraphConfig | NoGraphConfig = field(default_factory=RegionGraphConfig)
    fusion: FusionConfig | GlobalOnlyConfig = field(default_factory=FusionConfig)
    guidance: SemanticGuidanceConfig | NoGuidanceConfig = field(default_factory=SemanticGuidanceConfig)
    prefix: TokenPrefixConfig | FusedPrefixConfig | MlpMappingConfig | TransformerMappingConfig = field(
        default_factory=TokenPrefixConfig
    )
    decoder: Gpt2DecoderConfig = field(default_factory=Gpt2DecoderConfig)
    objective: CaptionObjectiveConfig | SelfCriticalConfig = field(default_factory=CaptionObjectiveConfig)
    phase1: PhaseConfig = field(default_factory=PhaseConfig)
    phase2: PhaseConfig = field(default_factory=PhaseConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    seed: int = 0
    """Seeds the weights, the order of the data and dropout; a study counts up from it."""

    clip_lora: ClipLoraConfig = field(default_factory=ClipLoraConfig)
    """Low-rank adapters that train in the place of the CLIP-style head's layers, in phases that free these."""
    init_from: Path | None = None
    """Checkpoint folder whose weights training starts from, in the place of fresh ones: how runs are chained."""

    def __post_init__(self) -> None:
        check_phases(self.phase1, self.phase2)
