"""Maps of embeddings: projections to a plane, their quality, and an interactive map."""

from __future__ import annotations

from ecgkit.feature_space.maps.interactive import lead_signals, write_interactive_map
from ecgkit.feature_space.maps.projections import TSNE_RECORDS, Projection, explained_variance, project
from ecgkit.feature_space.maps.quality import map_quality, quality_notes

__all__ = [
    "TSNE_RECORDS",
    "Projection",
    "explained_variance",
    "lead_signals",
    "map_quality",
    "project",
    "quality_notes",
    "write_interactive_map",
]
