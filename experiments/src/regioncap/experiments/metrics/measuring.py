"""All measures beside the metrics in one call: those that cost nothing always, the others where they are set up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from regioncap.experiments.metrics.chair import Chair, read_object_words, read_objects
from regioncap.experiments.metrics.measures import Measures
from regioncap.experiments.metrics.wording import KnownCaptions, wording

_GET_CLIP = (
    "--measures.clip-score.weights FOLDER_OR_NAME names the CLIP or SigLIP to judge by; the paper's is "
    "openai/clip-vit-base-patch32"
)
_GET_CHAIR = (
    "--measures.chair.instances FILES names COCO's instances_*.json and --measures.chair.synonyms FILE the authors' "
    "list of words (data/synonyms.txt of github.com/LisaAnne/Hallucination)"
)


@runtime_checkable
class Judge(Protocol):
    """`ClipScore`, without the seconds that PyTorch takes to import for those who want no CLIP."""

    def measure(
        self,
        captions: Mapping[str, str],
        pictures: Mapping[str, Path],
        references: Mapping[str, Sequence[str]],
        *,
        progress: bool = False,
    ) -> Measures:
        """See `ClipScore.measure`."""
        ...

    def judges_itself(self, encoder: Any) -> bool:
        """See `ClipScore.judges_itself`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipScoreConfig:
    """Which CLIP judges, if any."""

    weights: str | None = None
    """A CLIP or SigLIP in transformers' format, as a folder or a hub name; None leaves CLIPScore out."""
    batch_size: int = 32
    """Pictures encoded together."""

    def __post_init__(self) -> None:
        if self.weights == "":
            raise ValueError(f"measures.clip_score.weights is empty: {_GET_CLIP}")
        if self.batch_size < 1:
            raise ValueError(f"measures.clip_score.batch_size must be at least 1, got {self.batch_size}")

    def build(self) -> Judge | None:
        """Load the judge; None without weights. Raises ValueError naming the file that is missing."""
        if self.weights is None:
            return None
        from regioncap.encoders import ClipEncoderConfig
        from regioncap.experiments.metrics.clip_score import ClipScore

        return ClipScore(ClipEncoderConfig(weights=self.weights).build(), batch_size=self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChairConfig:
    """What tells which objects pictures show and which words name them."""

    instances: tuple[Path, ...] = ()
    """COCO's instances_*.json of the images: one file, or train's and val's. None leaves CHAIR out."""
    synonyms: Path | None = None
    """The list of words: a line a category, its name first (the authors' data/synonyms.txt). It is theirs, and does
    not come with this package."""

    def __post_init__(self) -> None:
        if bool(self.instances) != (self.synonyms is not None):
            given, lacks = ("instances", "synonyms") if self.instances else ("synonyms", "instances")
            raise ValueError(f"measures.chair.{given} is given without measures.chair.{lacks}: {_GET_CHAIR}")

    def build(self) -> Chair | None:
        """Read the files; None without. Raises ChairError naming the one that cannot be used."""
        if self.synonyms is None:
            return None
        return Chair(read_objects(self.instances), read_object_words(self.synonyms))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuresConfig:
    """What is measured beside the metrics. Without any of it: distinct-n, vocabulary, length, novelty, repetition."""

    clip_score: ClipScoreConfig = field(default_factory=ClipScoreConfig)
    chair: ChairConfig = field(default_factory=ChairConfig)

    def build(self, training: Iterable[str] | None = None, encoder: Any = None) -> "Measuring":
        """`training` are the captions that a novel one is none of; None leaves novelty out. `encoder` is the module
        that the captioner sees with, where that is known: of a CLIP that judges its own work is warned.

        Raises ValueError naming the file that is missing or cannot be used.
        """
        return Measuring(
            clip_score=self.clip_score.build(),
            chair=self.chair.build(),
            known=None if training is None else KnownCaptions(training),
            encoder=encoder,
        )


class Measuring:
    """Measures the captions of any number of captioners, which see with the same encoder."""

    def __init__(
        self,
        *,
        clip_score: Judge | None = None,
        chair: Chair | None = None,
        known: KnownCaptions | None = None,
        encoder: Any = None,
    ) -> None:
        self.clip_score, self.chair, self.known = clip_score, chair, known
        judges_itself = clip_score is not None and encoder is not None and clip_score.judges_itself(encoder)
        self._warnings = (_JUDGES_ITSELF,) if judges_itself else ()

    def measure(
        self,
        captions: Mapping[str, str],
        references: Mapping[str, Sequence[str]],
        pictures: Mapping[str, Path],
        *,
        progress: bool = False,
    ) -> Measures:
        """Measure one caption for every image.

        `pictures` are needed for CLIPScore alone; `progress` shows bars.
        """
        several = [wording(captions, self.known)]
        if self.chair is None:
            several.append(Measures(missing=dict.fromkeys(("CHAIRs", "CHAIRi"), _GET_CHAIR)))
        else:
            several.append(self.chair.measure(captions, references))
        if self.clip_score is None:
            several.append(Measures(missing=dict.fromkeys(("CLIPScore", "RefCLIPScore"), _GET_CLIP)))
        else:
            several.append(self.clip_score.measure(captions, pictures, references, progress=progress))
        return Measures.joined([*several, Measures(warnings=self._warnings)])


_JUDGES_ITSELF = (
    "CLIPScore IS BY THE VERY CLIP THAT THE CAPTIONER SEES WITH: it rewards what that CLIP believes, mistakes "
    "among it, and is no independent measure. Name another with --measures.clip-score.weights"
)
