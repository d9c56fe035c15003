"""Region graphs: KNN graph, graph attention with box geometry, and fusion (Wang et al. 2025, eqs. 3-5 and 7-10)."""

from regioncap.graph.attention import Attended, GraphAttention
from regioncap.graph.exports import to_networkx, to_pyg, to_sparse
from regioncap.graph.fusion import Fusion, FusionConfig, GlobalOnly, GlobalOnlyConfig, fuse
from regioncap.graph.geometry import GEOMETRY, pair_geometry, relative_geometry, spatial_distance
from regioncap.graph.knn import Edges, KnnGraph, Metric, knn_graph
from regioncap.graph.learned import LearnedNeighbours
from regioncap.graph.pictures import draw_graph
from regioncap.graph.region_graph import (
    GRAPH_PRESETS,
    EnhancedRegions,
    NoGraph,
    NoGraphConfig,
    RegionGraph,
    RegionGraphConfig,
)
from regioncap.graph.relations import Relations, relate
from regioncap.graph.summary import GraphSummary, summarise

__all__ = [
    "GEOMETRY",
    "GRAPH_PRESETS",
    "Attended",
    "Edges",
    "EnhancedRegions",
    "Fusion",
    "FusionConfig",
    "GlobalOnly",
    "GlobalOnlyConfig",
    "GraphAttention",
    "GraphSummary",
    "KnnGraph",
    "LearnedNeighbours",
    "Metric",
    "NoGraph",
    "NoGraphConfig",
    "RegionGraph",
    "RegionGraphConfig",
    "Relations",
    "draw_graph",
    "fuse",
    "knn_graph",
    "pair_geometry",
    "relate",
    "relative_geometry",
    "spatial_distance",
    "summarise",
    "to_networkx",
    "to_pyg",
    "to_sparse",
]
