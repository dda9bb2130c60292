"""Clusters of embeddings: fitted, selected, compared with what is known, described, and matched to labels."""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.feature_space.clusters.agreement import agreement_table, conditional_information_table
from ecgkit.feature_space.clusters.content import cluster_composition, cluster_table
from ecgkit.feature_space.clusters.fit import Clusters, fit_clusters, fit_hdbscan, fit_ward, methods_table
from ecgkit.feature_space.clusters.matching import match_clusters
from ecgkit.feature_space.clusters.selection import k_selection
