"""The graph stage: from the regions of an image to regions that know each other (eqs. 3-5, 7-9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regioncap.graph.attention import Geometry, GraphAttention, Norm, Residual, check_layer
from regioncap.graph.geometry import GEOMETRY
from regioncap.graph.knn import Join, KnnGraph, Metric, check_graph, knn_graph
from regioncap.graph.learned import LearnedNeighbours
from regioncap.graph.padding import clear
from regioncap.graph.relations import EdgeWeight, Relations, relate

Choice = Literal[Metric, "learned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancedRegions:
    """Regions after the graph. B images, N region slots, D channels, H heads. Padded rows and columns are zero."""

    features: Float[Tensor, "B N D"]
    graph: KnnGraph
    relations: Relations
    shares: Tensor
    """Of the last layer, in the order of `relations`: see `attention`."""

    @property
    def valid(self) -> Bool[Tensor, "B N"]:
        """Which region slots hold a region."""
        return self.graph.valid

    @property
    def edges(self) -> Float[Tensor, "B N N"]:
        """e_ij as matrices; 0 where no edge."""
        return self.graph.weights

    @property
    def attention(self) -> Float[Tensor, "B H N N"]:
        """How much region i listens to region j in the last layer, made when asked for."""
        return self.relations.matrices(self.shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGraphConfig:
    """KNN graph and graph attention. Eqs. 7-9 to the letter: `edge_weight`, `geometry`, `residual`, `norm` all none."""

    k: int = 5
    """Neighbours per region (K of Table 2)."""
    metric: Choice = "semantic"
    """`semantic` is eq. 4. `random` (meaningless edges) and `self` (no edges) are controls with equal parameters.
    `learned` lets query tokens pick the neighbours."""
    queries: int = 16
    """Query tokens of metric `learned`; the other metrics have none."""
    sigma: float | None = None
    """Width of the kernel of eq. 5; None takes each image's mean neighbour distance. `learned` has no kernel."""
    mix: float = 0.5
    """Share of the spatial distance in metric `mixed`; the other metrics do not read it."""
    join: Join = "union"
    """`union` joins two regions if either is among the other's k nearest, `mutual` if both are."""
    self_loops: bool = True
    """Whether a region also listens to itself."""
    layers: int = 2
    """Rounds of attention over the same graph."""
    heads: int = 4
    """Attention heads per layer; must divide the region width."""
    edge_weight: EdgeWeight = "prior"
    """`prior` adds log e_ij to the logits; with `none` the kernel, hence sigma, changes nothing but pictures."""
    geometry: Geometry = "message"
    """`bias` lets box geometry steer attention; `message` also sends it on; `none` leaves boxes to the KNN graph."""
    geometry_hidden: int = 16
    """Hidden width of the geometry bias; it runs on all N x N pairs, so keep it small."""
    residual: Residual = "add"
    """`add` keeps what a region was beside what it heard."""
    norm: Norm = "layer"
    """`layer` normalises the regions after each layer."""
    dropout: float = 0.0
    """Share of the attention weights dropped in training."""

    def __post_init__(self) -> None:
        if self.metric not in get_args(Choice):
            raise ValueError(f"graph.metric must be one of {', '.join(get_args(Choice))}, got {self.metric!r}")
        if self.edge_weight not in get_args(EdgeWeight):
            raise ValueError(
                f"graph.edge_weight must be one of {', '.join(get_args(EdgeWeight))}, got {self.edge_weight!r}"
            )
        if self.metric == "learned" and self.edge_weight == "none":
            raise ValueError("graph.metric 'learned' learns through the prior: it needs graph.edge_weight='prior'")
        if self.queries < 1:
            raise ValueError(f"graph.queries must be at least 1, got {self.queries}")
        check_graph(
            k=self.k, metric=self.metric, sigma=self.sigma, mix=self.mix, join=self.join, self_loops=self.self_loops
        )
        check_layer(
            heads=self.heads,
            geometry=self.geometry,
            geometry_hidden=self.geometry_hidden,
            residual=self.residual,
            norm=self.norm,
            dropout=self.dropout,
        )
        if self.layers < 1:
            raise ValueError(f"graph.layers must be at least 1, got {self.layers}; for no graph use NoGraphConfig")

    def build(self, dim: int) -> "RegionGraph":
        """Build the stage for regions of width `dim`; raises ValueError if `heads` does not divide it."""
        return RegionGraph(self, dim)


GRAPH_PRESETS: Mapping[str, RegionGraphConfig] = {
    "paper": RegionGraphConfig(heads=1, edge_weight="none", geometry="none", residual="none", norm="none"),
    "best": RegionGraphConfig(),
}
"""`paper` is eqs. 3-5 and 7-9 to the letter, with one attention vector and the self-loops of GAT; `best` is ours."""


class RegionGraph(nn.Module):
    """Join the regions of each image by a KNN graph and let them attend along it.

    The graph comes from the raw features (eq. 4 is on f_local_image) and the boxes; what travels along it are the
    adapted features. See `knn_graph` and `GraphAttention` for equations, departures and errors.
    """

    def __init__(self, config: RegionGraphConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        if config.metric == "learned":
            self.neighbours = LearnedNeighbours(dim, config.queries)
        self.layers = nn.ModuleList(
            GraphAttention(
                dim,
                len(GEOMETRY),
                heads=config.heads,
                geometry=config.geometry,
                geometry_hidden=config.geometry_hidden,
                residual=config.residual,
                norm=config.norm,
                dropout=config.dropout,
            )
            for _ in range(config.layers)
        )

    def forward(
        self,
        regions: Float[Tensor, "B N D"],
        raw: Float[Tensor, "B N R"],
        boxes: Float[Tensor, "B N 4"],
        valid: Bool[Tensor, "B N"],
    ) -> EnhancedRegions:
        """Enhance adapted `regions`; what stands in padded rows of any argument is ignored."""
        config = self.config
        graph = self._join(regions, raw, boxes, valid)
        relations = relate(
            graph, boxes, heads=config.heads, edge_weight=config.edge_weight, geometry=config.geometry != "none"
        )
        features = clear(regions, relations.padding)
        for layer in self.layers:
            features, shares = layer(features, relations)
        return EnhancedRegions(features=features, graph=graph, relations=relations, shares=shares)

    def _join(
        self,
        regions: Float[Tensor, "B N D"],
        raw: Float[Tensor, "B N R"],
        boxes: Float[Tensor, "B N 4"],
        valid: Bool[Tensor, "B N"],
    ) -> KnnGraph:
        config = self.config
        if config.metric == "learned":
            graph: KnnGraph = self.neighbours(
                regions, boxes, valid, k=config.k, join=config.join, self_loops=config.self_loops
            )
            return graph
        return knn_graph(
            raw,
            boxes,
            valid,
            k=config.k,
            metric=config.metric,
            sigma=config.sigma,
            mix=config.mix,
            join=config.join,
            self_loops=config.self_loops,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGraphConfig:
    """Null stage: the regions stay as they are."""

    def build(self, dim: int) -> "NoGraph":
        """Build the null stage; any width will do."""
        return NoGraph()


class NoGraph(nn.Module):
    """Hand the regions on without relations; no parameters, no edges, no attention."""

    def forward(
        self,
        regions: Float[Tensor, "B N D"],
        raw: Float[Tensor, "B N R"],
        boxes: Float[Tensor, "B N 4"],
        valid: Bool[Tensor, "B N"],
    ) -> EnhancedRegions:
        """Return `regions` with padded rows zero."""
        nobody = torch.zeros((*valid.shape, 0), dtype=torch.int64, device=valid.device)
        nothing = nobody.float()
        graph = KnnGraph(
            near=nobody,
            weight=nothing,
            distance=nothing,
            returned=nobody.bool(),
            loops=torch.zeros_like(valid),
            valid=valid,
        )
        relations = relate(graph, boxes, heads=1, form="dense")
        unheard = torch.zeros_like(graph.weights)[:, None]
        return EnhancedRegions(
            features=clear(regions, relations.padding), graph=graph, relations=relations, shares=unheard
        )
