"""The feature space of a model: embeddings, clusters, maps and linear probes."""
