"""The arms of the study. Each is a function of the full captioner that changes one stage, or names what else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from regioncap.decoder import FusedPrefixConfig
from regioncap.experiments.adapter import NoRegionsConfig
from regioncap.experiments.config import Experiment
from regioncap.graph import GlobalOnlyConfig, NoGraphConfig, RegionGraphConfig
from regioncap.guidance import NoGuidanceConfig

RETRIEVAL = "retrieval floor"
"""The row that is no captioner: the caption of the nearest training image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the table."""

    make: Callable[[Experiment], Experiment]
    """From the full captioner's experiment."""
    against: str
    """The row that its p is taken against."""
    says: str
    """What the row is, in the words of the report."""


def full(base: Experiment) -> Experiment:
    """Every stage: row 3 of Tables 5 and 6."""
    return base


def without_guidance(base: Experiment) -> Experiment:
    """Regions and their relations, no words: row 2 of Tables 5 and 6."""
    return replace(base, guidance=NoGuidanceConfig())


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
    """A ClipCap-style peer (Mokady et al. 2021): the global vector as a prefix of 10 tokens, no regions."""
    return replace(
        baseline(base), adapter=NoRegionsConfig(), fusion=GlobalOnlyConfig(), prefix=FusedPrefixConfig(tokens=10)
    )


def _with_metric(experiment: Experiment, metric: Literal["random", "self", "learned"]) -> Experiment:
    if not isinstance(experiment.graph, RegionGraphConfig):
        raise ValueError(f"this arm varies the graph, but the experiment's graph is {type(experiment.graph).__name__}")
    return replace(experiment, graph=replace(experiment.graph, metric=metric))


ARMS: Mapping[str, Arm] = {
    "clipcap": Arm(make=clipcap, against=RETRIEVAL, says="global vector, 10-token prefix, no regions (peer)"),
    "baseline": Arm(make=baseline, against="clipcap", says="global vector and regions"),
    "+graph": Arm(make=without_guidance, against="baseline", says="baseline with KNN graph and graph attention"),
    "+graph+guidance": Arm(make=full, against="+graph", says="+graph with scene and detail guidance"),
    "random edges": Arm(make=random_edges, against="+graph", says="+graph over random edges (control)"),
    "no edges": Arm(make=no_edges, against="+graph", says="+graph with self-loops only (control)"),
    "learned edges": Arm(make=learned_edges, against="+graph", says="+graph with neighbours picked by query tokens"),
}
"""In the order of the table, whose first row is RETRIEVAL."""
