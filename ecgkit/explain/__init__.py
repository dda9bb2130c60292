"""Explanations: concept directions in the embeddings, what a model uses of them, and the mean beats along them."""
