"""The arms of the study. Each is a function of the full captioner that changes one stage, or names what else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from regioncap.decoder import (
    GatedWordBiasConfig,
    MlpMappingConfig,
    NoWordBiasConfig,
    TokenPrefixConfig,
    TransformerMappingConfig,
)
from regioncap.experiments.adapter import AdapterConfig, NoRegionsConfig
from regioncap.experiments.config import Experiment
from regioncap.graph import FusionConfig, GlobalOnlyConfig, NoGraphConfig, RegionGraphConfig
from regioncap.guidance import NoGuidanceConfig, SemanticGuidanceConfig

RETRIEVAL = "retrieval floor"
"""The row that is no captioner: the caption of the nearest training image."""
BEFORE = "before"
"""The row of the checkpoint that a run goes on from (`init_from`)."""
UNTRAINED = {
    RETRIEVAL: "the first caption of the nearest training image, by the CLIP-style head",
    BEFORE: "the checkpoint that training went on from",
}
"""Rows that train nothing, and what they are."""
SELF_CRITICAL = "self-critical"
"""The run that goes on with captions of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the table."""

    make: Callable[[Experiment], Experiment]
    """From the full captioner's experiment."""
    against: str
    """The row that its p is taken against."""
    says: str
    """What the row is, in the words of the report."""


def as_it_is(base: Experiment) -> Experiment:
    """The captioner that the settings describe."""
    return base


def full(base: Experiment) -> Experiment:
    """Every stage: row 3 of Tables 5 and 6. Stages that the settings leave out are the default ones."""
    return replace(
        base,
        adapter=base.adapter if isinstance(base.adapter, AdapterConfig) else AdapterConfig(),
        graph=base.graph if isinstance(base.graph, RegionGraphConfig) else RegionGraphConfig(),
        fusion=base.fusion if isinstance(base.fusion, FusionConfig) else FusionConfig(),
    )


def without_guidance(base: Experiment) -> Experiment:
    """Regions and their relations, no words: row 2 of Tables 5 and 6."""
    return replace(_by(full(base)), guidance=NoGuidanceConfig())


def without_graph(base: Experiment) -> Experiment:
    """Words, no relations: what is left of the full captioner if the graph goes."""
    return replace(full(base), graph=NoGraphConfig())


def clipcap_with_guidance(base: Experiment) -> Experiment:
    """Words beside the global vector, clipcap with guidance: regions enter through words and in no other way.

    Keyword heads read the regions themselves; where words are found by similarity, regions' features ask for them.
    """
    guidance, prefix = base.guidance, base.prefix
    learned = isinstance(guidance, SemanticGuidanceConfig) and guidance.retrieval == "learned"
    if isinstance(prefix, TokenPrefixConfig):
        prefix = replace(prefix, kinds=tuple(kind for kind in prefix.kinds if kind != "regions"))
    adapter = NoRegionsConfig(places=True) if learned else base.adapter
    return replace(without_graph(base), adapter=adapter, fusion=GlobalOnlyConfig(), prefix=prefix)


def baseline(base: Experiment) -> Experiment:
    """Global vector and regions, no relations, no words: row 1 of Tables 5 and 6."""
    return replace(without_guidance(base), graph=NoGraphConfig())


def random_edges(base: Experiment) -> Experiment:
    """Control of capacity: the graph arm with edges that mean nothing."""
    return _with_metric(without_guidance(base), "random")


def no_edges(base: Experiment) -> Experiment:
    """Control of capacity: the graph arm's parameters, every region listening to itself alone."""
    return _with_metric(without_guidance(base), "self")


def learned_edges(base: Experiment) -> Experiment:
    """The graph arm with neighbours that query tokens pick instead of the nearest ones."""
    return _with_metric(without_guidance(base), "learned")


def clipcap(base: Experiment) -> Experiment:
    """ClipCap (Mokady et al. 2021) with its MLP: the global vector as a prefix of 10 tokens, no regions (peer)."""
    return replace(
        baseline(base), adapter=NoRegionsConfig(), fusion=GlobalOnlyConfig(), prefix=MlpMappingConfig(tokens=10)
    )


def clipcap_transformer(base: Experiment) -> Experiment:
    """ClipCap with its transformer for a mapping network: 8 layers, 10 learned constants that become the prefix."""
    return replace(clipcap(base), prefix=TransformerMappingConfig(tokens=10))


def scene_words(base: Experiment) -> Experiment:
    """Guidance of the whole picture alone (eq. 11)."""
    return _guided(base, scales=("scene",))


def detail_words(base: Experiment) -> Experiment:
    """Guidance of the regions alone (eq. 12)."""
    return _guided(base, scales=("detail",))


def shuffled_guidance(base: Experiment) -> Experiment:
    """Control of the words: every image is told another one's."""
    return _guided(base, words_of="another")


def similar_words(base: Experiment) -> Experiment:
    """Words by similarity alone, as the paper has them, where the full captioner's heads were taught."""
    return _guided(base, retrieval="similarity")


def words_as_vectors(base: Experiment) -> Experiment:
    """Words enter as the vectors of eqs. 11-13 alone."""
    return _by(_guided(base))


def words_as_tokens(base: Experiment) -> Experiment:
    """Beside the vectors, words are tokens of the prefix in the decoder's own embeddings."""
    return _by(_guided(base), tokens=True)


def words_as_bias(base: Experiment) -> Experiment:
    """Beside the vectors, words that are not yet said raise their logits through a gate."""
    return _by(_guided(base), bias=True)


def words_as_both(base: Experiment) -> Experiment:
    """Vectors, tokens and bias together."""
    return _by(_guided(base), tokens=True, bias=True)


def _guided(base: Experiment, **changes: Any) -> Experiment:
    if not isinstance(base.guidance, SemanticGuidanceConfig):
        raise ValueError(f"this arm varies guidance, but the experiment's is {type(base.guidance).__name__}")
    return replace(full(base), guidance=replace(base.guidance, **changes))


def _by(base: Experiment, *, tokens: bool = False, bias: bool = False) -> Experiment:
    """The ways by which words reach the decoder besides the vectors of eqs. 11-13."""
    prefix = base.prefix
    if isinstance(prefix, TokenPrefixConfig):
        kinds = tuple(kind for kind in prefix.kinds if kind != "keywords")
        prefix = replace(prefix, kinds=(*kinds, "keywords") if tokens else kinds)
    elif tokens:
        raise ValueError(f"words as tokens need a prefix of tokens, but the experiment's is {type(prefix).__name__}")
    if not bias:
        word_bias: NoWordBiasConfig | GatedWordBiasConfig = NoWordBiasConfig()
    elif isinstance(base.decoder.word_bias, GatedWordBiasConfig):
        word_bias = base.decoder.word_bias
    else:
        word_bias = GatedWordBiasConfig()
    return replace(base, prefix=prefix, decoder=replace(base.decoder, word_bias=word_bias))


def _with_metric(experiment: Experiment, metric: Literal["random", "self", "learned"]) -> Experiment:
    assert isinstance(experiment.graph, RegionGraphConfig), "an arm with guidance taken away has its graph"
    return replace(experiment, graph=replace(experiment.graph, metric=metric))


_WITH_GRAPH: Mapping[str, Arm] = {
    "clipcap": Arm(
        make=clipcap, against=RETRIEVAL, says="global vector, 10 tokens by ClipCap's MLP, no regions (peer)"
    ),
    "clipcap transformer": Arm(
        make=clipcap_transformer, against="clipcap", says="clipcap with ClipCap's transformer for the MLP (peer)"
    ),
    "baseline": Arm(make=baseline, against="clipcap", says="global vector and regions"),
    "+graph": Arm(make=without_guidance, against="baseline", says="baseline with KNN graph and graph attention"),
    "+graph+guidance": Arm(make=full, against="+graph", says="+graph with scene and detail guidance"),
    "+guidance": Arm(make=without_graph, against="baseline", says="baseline with scene and detail guidance, no graph"),
    "clipcap+guidance": Arm(
        make=clipcap_with_guidance,
        against="clipcap",
        says="global vector with scene and detail guidance, through which alone regions enter",
    ),
    "scene words": Arm(make=scene_words, against="+graph", says="+graph with guidance of the whole picture alone"),
    "detail words": Arm(make=detail_words, against="+graph", says="+graph with guidance of the regions alone"),
    "shuffled guidance": Arm(
        make=shuffled_guidance, against="+graph+guidance", says="+graph+guidance with another image's words (control)"
    ),
    "similar words": Arm(
        make=similar_words, against="+graph+guidance", says="+graph+guidance with words by similarity, untaught"
    ),
    "words as vectors": Arm(make=words_as_vectors, against="+graph", says="+graph, words as the vectors of eqs. 11-13"),
    "words as tokens": Arm(make=words_as_tokens, against="+graph", says="as vectors, and as tokens of the prefix"),
    "words as bias": Arm(make=words_as_bias, against="+graph", says="as vectors, and as a bias until they are said"),
    "words as both": Arm(make=words_as_both, against="+graph", says="as vectors, tokens and bias"),
    "random edges": Arm(make=random_edges, against="+graph", says="+graph over random edges (control)"),
    "no edges": Arm(make=no_edges, against="+graph", says="+graph with self-loops only (control)"),
    "learned edges": Arm(make=learned_edges, against="+graph", says="+graph with neighbours picked by query tokens"),
}

_ON_CLIPCAP = {"+graph+guidance": "clipcap+guidance", "+graph": "clipcap"}
"""Row -> the row that it is where regions enter through words alone."""


def _on_clipcap(arm: Arm) -> Arm:
    """The arm where regions enter through words alone, beside the row that is so."""
    says = arm.says
    for row, without in _ON_CLIPCAP.items():
        says = says.replace(row, without)
    return Arm(make=lambda base: clipcap_with_guidance(arm.make(base)), against=_ON_CLIPCAP[arm.against], says=says)


ARMS: Mapping[str, Arm] = {
    **_WITH_GRAPH,
    **{
        f"{name} on clipcap": _on_clipcap(_WITH_GRAPH[name])
        for name in ("scene words", "detail words", "shuffled guidance", "words as tokens", "words as bias")
    },
}
"""In the order of the table, whose first row is RETRIEVAL."""

STANDARD = (
    "clipcap",
    "baseline",
    "+graph",
    "+graph+guidance",
    "scene words",
    "detail words",
    "shuffled guidance",
    "random edges",
    "no edges",
)
"""The arms of a study that names none; the others answer questions of their own."""

_STANDARD_ON_CLIPCAP = (
    "clipcap",
    "baseline",
    "clipcap+guidance",
    "+guidance",
    "+graph+guidance",
    "scene words on clipcap",
    "detail words on clipcap",
    "shuffled guidance on clipcap",
)
"""The same where regions enter through words alone: do they help in another way, does a graph, does every word?"""

_CAPTIONER = {"photos-best": "clipcap+guidance", "photos-best-detected": "clipcap+guidance"}
"""Preset -> the arm that is its captioner, where that lacks a stage: its settings serve the arms that have it."""

_GOING_ON = {
    SELF_CRITICAL: Arm(make=as_it_is, against=BEFORE, says="goes on with captions of its own, rewarded by CIDEr-D"),
}
"""Runs that are no rows of a study."""


def arm_named(name: str) -> Arm | None:
    """A row of the study or a run that goes on from a checkpoint; None for a row that no training makes."""
    return ARMS.get(name, _GOING_ON.get(name))


def own_arm(base: Experiment) -> str:
    """The arm that is the captioner of these settings: a preset's choice, or what stages they have."""
    guided = isinstance(base.guidance, SemanticGuidanceConfig)
    if isinstance(base.graph, RegionGraphConfig):
        return _CAPTIONER.get(base.preset, "+graph+guidance") if guided else "+graph"
    if not guided:
        return "baseline"
    return "clipcap+guidance" if isinstance(base.fusion, GlobalOnlyConfig) else "+guidance"


def standard_arms(base: Experiment) -> tuple[str, ...]:
    """The arms of a study of these settings that names none."""
    return STANDARD if own_arm(base).startswith("+graph") else _STANDARD_ON_CLIPCAP


def arm_of(name: str) -> Arm:
    """The arm that `--arm` names; raises ValueError with all names if there is none of this name."""
    if name not in ARMS:
        raise ValueError(f"--arm: no arm {name!r}; there are {', '.join(map(repr, ARMS))}")
    return ARMS[name]
