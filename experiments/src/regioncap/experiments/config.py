"""One object that says all of an experiment. Field names are the command line's flags and MLflow's keys."""

from dataclasses import dataclass, field

import tyro

from regioncap.decoder import FusedPrefixConfig, Gpt2DecoderConfig, SearchConfig, TokenPrefixConfig
from regioncap.experiments.adapter import AdapterConfig, NoRegionsConfig
from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.data.sources import DataSource
from regioncap.experiments.encoders import PaperEncodersSource, PhotoEncodersSource, ScenesEncodersSource
from regioncap.experiments.keywords.config import KeywordSupervisionConfig
from regioncap.experiments.language import LanguageConfig
from regioncap.experiments.objectives import ObjectiveConfig
from regioncap.experiments.phases import PhaseConfig, TrainConfig
from regioncap.experiments.training_images import TrainingImagesConfig
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
    prefix: TokenPrefixConfig | FusedPrefixConfig = field(default_factory=TokenPrefixConfig)
    decoder: Gpt2DecoderConfig = field(default_factory=Gpt2DecoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    phase1: PhaseConfig = field(default_factory=PhaseConfig)
    phase2: PhaseConfig = field(default_factory=PhaseConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    seed: int = 0
    """Seeds the weights, the order of the data and dropout; a study counts up from it."""

    def __post_init__(self) -> None:
        if abs(self.phase1.share + self.phase2.share - 1) > 1e-6:
            raise ValueError(
                f"phase1.share and phase2.share must add up to 1, got {self.phase1.share} and {self.phase2.share}"
            )
