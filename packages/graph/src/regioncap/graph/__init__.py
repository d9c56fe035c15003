"""Region graphs: KNN graph, graph attention with box geometry, and fusion (Wang et al. 2025, eqs. 3-5 and 7-10)."""

from regioncap.graph.attention import Attended, GraphAttention
from regioncap.graph.fusion import Fusion, FusionConfig, GlobalOnly, GlobalOnlyConfig
from regioncap.graph.geometry import GEOMETRY, pair_geometry, spatial_distance
from regioncap.graph.knn import KnnGraph, Metric, knn_graph
from regioncap.graph.region_graph import EnhancedRegions, NoGraph, NoGraphConfig, RegionGraph, RegionGraphConfig

__all__ = [
    "GEOMETRY",
    "Attended",
    "EnhancedRegions",
    "Fusion",
    "FusionConfig",
    "GlobalOnly",
    "GlobalOnlyConfig",
    "GraphAttention",
    "KnnGraph",
    "Metric",
    "NoGraph",
    "NoGraphConfig",
    "RegionGraph",
    "RegionGraphConfig",
    "knn_graph",
    "pair_geometry",
    "spatial_distance",
]
