"""Region graphs: KNN graph, graph attention with box geometry, and fusion (Wang et al. 2025, eqs. 3-5 and 7-10)."""

from regioncap.graph.attention import Attended, GraphAttention
from regioncap.graph.fusion import Fusion, FusionConfig, GlobalOnly, GlobalOnlyConfig
from regioncap.graph.geometry import GEOMETRY, pair_geometry, relative_geometry, spatial_distance
from regioncap.graph.knn import Edges, KnnGraph, Metric, knn_graph
from regioncap.graph.learned import LearnedNeighbours
from regioncap.graph.region_graph import EnhancedRegions, NoGraph, NoGraphConfig, RegionGraph, RegionGraphConfig
from regioncap.graph.relations import Relations, relate

__all__ = [
    "GEOMETRY",
    "Attended",
    "Edges",
    "EnhancedRegions",
    "Fusion",
    "FusionConfig",
    "GlobalOnly",
    "GlobalOnlyConfig",
    "GraphAttention",
    "KnnGraph",
    "LearnedNeighbours",
    "Metric",
    "NoGraph",
    "NoGraphConfig",
    "RegionGraph",
    "RegionGraphConfig",
    "Relations",
    "knn_graph",
    "pair_geometry",
    "relate",
    "relative_geometry",
    "spatial_distance",
]
