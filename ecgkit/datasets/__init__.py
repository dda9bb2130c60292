"""Processed datasets: built in parallel from a source, resumable, and opened as a memory map."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecgkit.datasets.store import (
        Dataset,
        build,
        dataset_name,
        export_npz,
        is_current,
        n_cores,
        open_dataset,
        read_manifest,
    )

__all__ = ["Dataset", "build", "dataset_name", "export_npz", "is_current", "n_cores", "open_dataset", "read_manifest"]


def __getattr__(name: str) -> object:
    """Import pandas and pyarrow when they are first needed, so that worker processes start quickly."""
    if name in __all__:
        from ecgkit.datasets import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
