"""What a model has learned: embeddings, clusters, maps, linear probes, concept directions and mean beats.

The rooms: `clusters`, `maps`, `probes` and `concepts`; `beats` and `measures` read the ECGs themselves, `embeddings`
and `layers` the network, and `similar` finds the nearest records.
"""

from __future__ import annotations

from ecgkit.feature_space.run import NOTEBOOK, FeatureSpaceConfig, FeatureSpaceRun, begin, plan

__all__ = ["NOTEBOOK", "FeatureSpaceConfig", "FeatureSpaceRun", "begin", "plan"]
