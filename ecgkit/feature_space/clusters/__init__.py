"""Clusters of embeddings: fitted, selected, compared with what is known, described, and matched to labels."""

from __future__ import annotations

from ecgkit.feature_space.clusters.agreement import agreement_table, conditional_information_table
from ecgkit.feature_space.clusters.content import cluster_composition, cluster_table
from ecgkit.feature_space.clusters.fit import Clusters, fit_clusters, fit_hdbscan, fit_ward, methods_table
from ecgkit.feature_space.clusters.matching import match_clusters
from ecgkit.feature_space.clusters.selection import k_selection

__all__ = [
    "Clusters",
    "agreement_table",
    "cluster_composition",
    "cluster_table",
    "conditional_information_table",
    "fit_clusters",
    "fit_hdbscan",
    "fit_ward",
    "k_selection",
    "match_clusters",
    "methods_table",
]
