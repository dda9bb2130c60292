"""What a model has learned: embeddings, clusters, maps, linear probes, concept directions and mean beats.

The rooms: `clusters`, `maps`, `probes` and `concepts`; `beats` and `measures` read the ECGs themselves, `embeddings`
and `layers` the network, and `similar` finds the nearest records.
"""

from __future__ import annotations

from ecgkit.feature_space.config import FeatureSpaceConfig
from ecgkit.feature_space.run import FeatureSpaceRun, open_space

__all__ = ["FeatureSpaceConfig", "FeatureSpaceRun", "open_space"]
