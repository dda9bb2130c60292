"""Clusters of embeddings: fitted, chosen, compared with what is known, described, and matched to labels."""

from __future__ import annotations

from ecgkit.feature_space.clusters.agreement import (
    ALL_RECORDS,
    EXACTLY_ONE,
    agreement,
    agreement_table,
    cluster_composition,
    partitions,
    purity,
)
from ecgkit.feature_space.clusters.cards import (
    ClusterCard,
    cards_table,
    cluster_cards,
    cluster_positions,
    nearest_records,
)
from ecgkit.feature_space.clusters.confounding import (
    conditional_information,
    confounding_in_words,
    confounding_table,
)
from ecgkit.feature_space.clusters.fit import (
    NOISE,
    Clusters,
    fit_clusters,
    fit_hdbscan,
    fit_ward,
    methods_table,
)
from ecgkit.feature_space.clusters.matching import Matching, match_clusters
from ecgkit.feature_space.clusters.saved import read_clusters, save_clusters
from ecgkit.feature_space.clusters.selection import k_selection

__all__ = [
    "ALL_RECORDS",
    "EXACTLY_ONE",
    "NOISE",
    "ClusterCard",
    "Clusters",
    "Matching",
    "agreement",
    "agreement_table",
    "cards_table",
    "cluster_cards",
    "cluster_composition",
    "cluster_positions",
    "conditional_information",
    "confounding_in_words",
    "confounding_table",
    "fit_clusters",
    "fit_hdbscan",
    "fit_ward",
    "k_selection",
    "match_clusters",
    "methods_table",
    "nearest_records",
    "partitions",
    "purity",
    "read_clusters",
    "save_clusters",
]
