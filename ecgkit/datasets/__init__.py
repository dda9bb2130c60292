"""Processed datasets: built in parallel from a source, resumed, opened as a memory map, and exported."""

from __future__ import annotations

# ruff: noqa: F401 # a name is public by its import here
from typing import TYPE_CHECKING

from ecgkit.lazy import lazy_names

if TYPE_CHECKING:
    from ecgkit.datasets.building import build_dataset, is_current
    from ecgkit.datasets.contents import check_contents
    from ecgkit.datasets.export import export_npz
    from ecgkit.datasets.manifest import dataset_name, default_label_set, read_manifest
    from ecgkit.datasets.opening import Dataset, open_dataset
    from ecgkit.stats.folds import assign_folds

__getattr__, __dir__ = lazy_names(__name__)  # worker processes start quickly without pandas
