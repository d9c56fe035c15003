"""The graph stage: from the regions of an image to regions that know each other (eqs. 3-5, 7-9)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regioncap.graph.attention import EdgeWeight, Geometry, GraphAttention, Norm, Residual, check_layer
from regioncap.graph.geometry import GEOMETRY, pair_geometry
from regioncap.graph.knn import Metric, check_metric, knn_graph


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancedRegions:
    """Regions after the graph. B images, N region slots, D channels, H heads. Padded rows and columns are zero."""

    features: Float[Tensor, "B N D"]
    edges: Float[Tensor, "B N N"]
    """e_ij of eq. 5; 0 where no edge."""
    attention: Float[Tensor, "B H N N"]
    """How much region i listens to region j in the last layer."""
    valid: Bool[Tensor, "B N"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGraphConfig:
    """KNN graph and graph attention. Eqs. 7-9 to the letter: `edge_weight`, `geometry`, `residual`, `norm` all none."""

    k: int = 5
    """Neighbours per region (K of Table 2)."""
    metric: Metric = "semantic"
    """`semantic` is eq. 4. `random` (meaningless edges) and `self` (no edges) are controls with equal parameters."""
    sigma: float | None = None
    """Width of the kernel of eq. 5; None takes each image's mean neighbour distance."""
    mix: float = 0.5
    """Share of the spatial distance in metric `mixed`; the other metrics do not read it."""
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
        check_metric(k=self.k, metric=self.metric, sigma=self.sigma, mix=self.mix, self_loops=self.self_loops)
        check_layer(
            heads=self.heads,
            edge_weight=self.edge_weight,
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


class RegionGraph(nn.Module):
    """Join the regions of each image by a KNN graph and let them attend along it.

    The graph comes from the raw features (eq. 4 is on f_local_image) and the boxes; what travels along it are the
    adapted features. See `knn_graph` and `GraphAttention` for equations, departures and errors.
    """

    def __init__(self, config: RegionGraphConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        # Absence of geometry is a zero-length axis.
        self.pair_dim = 0 if config.geometry == "none" else len(GEOMETRY)
        self.layers = nn.ModuleList(
            GraphAttention(
                dim,
                self.pair_dim,
                heads=config.heads,
                edge_weight=config.edge_weight,
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
        graph = knn_graph(
            raw,
            boxes,
            valid,
            k=config.k,
            metric=config.metric,
            sigma=config.sigma,
            mix=config.mix,
            self_loops=config.self_loops,
        )
        without = boxes.new_zeros((*valid.shape, valid.shape[1], 0))
        geometry = pair_geometry(boxes, valid) if self.pair_dim else without
        features = regions.masked_fill(~valid[..., None], 0.0)
        attention = graph.weights[:, None]
        for layer in self.layers:
            attended = layer(features, graph.weights, geometry, valid)
            features, attention = attended.features, attended.attention
        return EnhancedRegions(features=features, edges=graph.weights, attention=attention, valid=valid)


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
        nothing = torch.zeros((*valid.shape, valid.shape[1]), dtype=torch.float32, device=valid.device)
        return EnhancedRegions(
            features=regions.masked_fill(~valid[..., None], 0.0), edges=nothing, attention=nothing[:, None], valid=valid
        )
