"""Maps of embeddings: projections to a plane, their quality, and an interactive map."""

from __future__ import annotations

from ecgkit.feature_space.maps.interactive import (
    lead_signals,
    write_interactive_map,
)
from ecgkit.feature_space.maps.projections import (
    METHODS,
    TSNE_RECORDS,
    Projection,
    explained_variance,
    project,
    project_pca,
    project_tsne,
    project_umap,
)
from ecgkit.feature_space.maps.quality import map_quality, note_of, quality_notes, seed_agreement

__all__ = [
    "METHODS",
    "TSNE_RECORDS",
    "Projection",
    "explained_variance",
    "lead_signals",
    "map_quality",
    "note_of",
    "project",
    "project_pca",
    "project_tsne",
    "project_umap",
    "quality_notes",
    "seed_agreement",
    "write_interactive_map",
]
