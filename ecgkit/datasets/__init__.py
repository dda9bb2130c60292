"""Processed datasets: built in parallel from a source, resumed, opened as a memory map, and exported."""

from __future__ import annotations

# ruff: noqa: F401 # a name is public by its import here
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgkit.datasets.building import build_dataset, is_current
    from ecgkit.datasets.contents import check_contents
    from ecgkit.datasets.export import export_npz
    from ecgkit.datasets.manifest import dataset_name, default_label_set, read_manifest
    from ecgkit.datasets.opening import Dataset, open_dataset
    from ecgkit.stats.folds import assign_folds

NAMES = {
    "datasets.building": ("build_dataset", "is_current"),
    "datasets.contents": ("check_contents",),
    "datasets.export": ("export_npz",),
    "datasets.manifest": ("dataset_name", "default_label_set", "read_manifest"),
    "datasets.opening": ("Dataset", "open_dataset"),
    "stats.folds": ("assign_folds",),
}
"""The public names of each module, which is imported on first use: worker processes start quickly without pandas."""


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562)."""
    for module, names in NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"ecgkit.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
