"""Processed datasets: built in parallel from a source, resumed, opened as a memory map, and exported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgkit.datasets.building import build_dataset, is_current
    from ecgkit.datasets.contents import check_contents
    from ecgkit.datasets.export import export_npz
    from ecgkit.datasets.manifest import dataset_name, default_label_set, read_manifest
    from ecgkit.datasets.opening import Dataset, open_dataset
    from ecgkit.stats.folds import assign_folds

_MODULES = (
    "datasets.manifest",
    "datasets.contents",
    "datasets.opening",
    "datasets.building",
    "datasets.export",
    "stats.folds",
)

__all__ = [
    "Dataset", "assign_folds", "build_dataset", "check_contents", "dataset_name", "default_label_set",
    "export_npz", "is_current", "open_dataset", "read_manifest",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import pandas and pyarrow when they are first needed, so that worker processes start quickly."""
    if name in __all__:
        for module in _MODULES:
            if (found := getattr(importlib.import_module(f"ecgkit.{module}"), name, None)) is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
