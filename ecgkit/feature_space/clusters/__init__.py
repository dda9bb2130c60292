"""Clusters of embeddings: fitted, selected, compared with what is known, described, and matched to labels."""

from __future__ import annotations

from ecgkit.feature_space.clusters.agreement import EXACTLY_ONE, agreement_table, conditional_information_table
from ecgkit.feature_space.clusters.content import (
    ALL_RECORDS,
    cluster_composition,
    cluster_members,
    cluster_table,
    nearest_records,
)
from ecgkit.feature_space.clusters.fit import NOISE, Clusters, fit_clusters, fit_hdbscan, fit_ward, methods_table
from ecgkit.feature_space.clusters.matching import match_clusters
from ecgkit.feature_space.clusters.selection import k_selection

__all__ = [
    "ALL_RECORDS",
    "EXACTLY_ONE",
    "NOISE",
    "Clusters",
    "agreement_table",
    "cluster_composition",
    "cluster_members",
    "cluster_table",
    "conditional_information_table",
    "fit_clusters",
    "fit_hdbscan",
    "fit_ward",
    "k_selection",
    "match_clusters",
    "methods_table",
    "nearest_records",
]
