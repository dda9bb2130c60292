"""Processed datasets: built in parallel from a source, resumed, opened as a memory map, and exported."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgkit.datasets.building import build_dataset, is_current, n_cores
    from ecgkit.datasets.contents import check_contents
    from ecgkit.datasets.export import export_npz
    from ecgkit.datasets.manifest import dataset_name, default_label_set, read_manifest
    from ecgkit.datasets.opening import Dataset, open_dataset
    from ecgkit.stats.folds import assign_folds

_MODULES = {
    "Dataset": "ecgkit.datasets.opening",
    "assign_folds": "ecgkit.stats.folds",
    "build_dataset": "ecgkit.datasets.building",
    "check_contents": "ecgkit.datasets.contents",
    "dataset_name": "ecgkit.datasets.manifest",
    "default_label_set": "ecgkit.datasets.manifest",
    "export_npz": "ecgkit.datasets.export",
    "is_current": "ecgkit.datasets.building",
    "n_cores": "ecgkit.datasets.building",
    "open_dataset": "ecgkit.datasets.opening",
    "read_manifest": "ecgkit.datasets.manifest",
}

__all__ = [
    "Dataset",
    "assign_folds",
    "build_dataset",
    "check_contents",
    "dataset_name",
    "default_label_set",
    "export_npz",
    "is_current",
    "n_cores",
    "open_dataset",
    "read_manifest",
]


def __getattr__(name: str) -> object:
    """Import pandas and pyarrow when they are first needed, so that worker processes start quickly."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
