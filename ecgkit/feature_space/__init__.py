"""What a model has learned: clusters, projections and linear probes of its embeddings."""

from __future__ import annotations

from ecgkit.feature_space.clusters import (
    Clusters,
    cluster_agreement,
    cluster_composition,
    fit_clusters,
    k_selection,
    metadata_agreement,
)
from ecgkit.feature_space.probes import TARGETS, ProbeResult, Target, fit_probes
from ecgkit.feature_space.projections import Projection, explained_variance, project_pca, project_umap
from ecgkit.feature_space.report import figures, probe_table, write_probe_session
from ecgkit.feature_space.run import NOTEBOOK, FeatureSpaceConfig, FeatureSpaceRun, begin, plan

__all__ = [
    "NOTEBOOK",
    "TARGETS",
    "Clusters",
    "FeatureSpaceConfig",
    "FeatureSpaceRun",
    "ProbeResult",
    "Projection",
    "Target",
    "begin",
    "cluster_agreement",
    "cluster_composition",
    "explained_variance",
    "figures",
    "fit_clusters",
    "fit_probes",
    "k_selection",
    "metadata_agreement",
    "plan",
    "probe_table",
    "project_pca",
    "project_umap",
    "write_probe_session",
]
