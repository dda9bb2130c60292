"""Maps of embeddings: projections to a plane, their quality, and an interactive map."""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.feature_space.maps.interactive import lead_signals, write_interactive_map
from ecgkit.feature_space.maps.projections import TSNE_RECORDS, Projection, explained_variance, project
from ecgkit.feature_space.maps.quality import map_quality, quality_notes
