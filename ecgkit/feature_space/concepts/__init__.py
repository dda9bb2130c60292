"""Concept directions: where age or sex lies in the embeddings, who is at its ends, and what goes when it is removed."""

from __future__ import annotations

from ecgkit.feature_space.concepts.directions import (
    ConceptDirection,
    along_direction,
    askable,
    concept_direction,
    group_table,
    records_at_ends,
)
from ecgkit.feature_space.concepts.effect import ConceptEffect, concept_effect
from ecgkit.feature_space.concepts.erasure import (
    Eraser,
    erase_direction,
    erase_least_squares,
    erase_matched,
    erase_random,
)

__all__ = [
    "ConceptDirection",
    "ConceptEffect",
    "Eraser",
    "along_direction",
    "askable",
    "concept_direction",
    "concept_effect",
    "erase_direction",
    "erase_least_squares",
    "erase_matched",
    "erase_random",
    "group_table",
    "records_at_ends",
]
