"""What a model has learned from: its own data set, those of the weights that it started from, and of its members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit import paths
from ecgkit.datasets import open_dataset, read_manifest
from ecgkit.datasets.manifest import MANIFEST
from ecgkit.errors import EcgkitError
from ecgkit.inference.model_folder import find_folder
from ecgkit.io import json_or_none
from ecgkit.stats.folds import TEST_FOLD, TRAIN_FOLDS, VALIDATION_FOLD
from ecgkit.stats.identifiers import patient_keys
from ecgkit.training.base_config import starts_from_weights

PTBXL = "ptbxl"


def datasets_behind(config: Mapping[str, Any], folder: Path) -> list[str]:
    """List the data sets that a model has learned from, directly or by the weights that it started from.

    Parameters
    ----------
    config : mapping
        The contents of its ``config.json``.
    folder : Path
        Its folder, next to which the members of an ensemble are.

    Returns
    -------
    list of str
        Their names, each once; an empty one among them if some are not known any more.
    """
    return list(dict.fromkeys(_datasets_behind(config, folder)))


def _datasets_behind(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield the name of each data set, perhaps several times."""
    yield str(config.get("dataset") or "")
    before = [config["init"]] if starts_from_weights(config.get("init")) else []
    for name in (*before, *(folder.parent / member for member in config.get("members", ()))):
        try:
            found = find_folder(name, folder)
        except EcgkitError:  # it was deleted
            yield ""
            continue
        yield from _datasets_behind(json_or_none(found / "config.json") or {}, found)


def kind_of(manifest: Mapping[str, Any]) -> str:
    """Return what a dataset's identifiers belong to: its published source, or the name of a folder of own files."""
    kind = manifest["source"].get("identity", {}).get("kind", "folder")
    return str(manifest["source"]["name"] if kind == "folder" else kind)


def origins(records: pd.DataFrame, kind: str) -> NDArray[np.str_]:
    """Return where each record was published first: ``ptbxl`` for those of PTB-XL, also in PhysioNet/CinC."""
    own = (kind + " " + records["record_id"]).to_numpy(str)
    if kind == PTBXL:
        return np.full(len(records), PTBXL)
    if "subset" in records:
        own[(records["subset"] == "PTB-XL").fillna(value=False).to_numpy(bool)] = PTBXL
    return own


def check_unseen(name: str, folder: Path, dataset: str, root: Path) -> None:
    """Refuse weights that have learned from patients who are in fold 9 or 10 of a dataset.

    Parameters
    ----------
    name, folder : str, Path
        The weights.
    dataset : str
        Name of the processed dataset on which something is to be trained and evaluated with them.
    root : Path
        The folder of data sets and sessions.

    Raises
    ------
    EcgkitError
        If there are such patients, as in a dataset that was divided anew.
    """
    manifest, records = read_records(dataset, root)
    evaluated = records["fold"].isin((VALIDATION_FOLD, TEST_FOLD)).to_numpy()
    for before in datasets_behind(json_or_none(folder / "config.json") or {}, folder):
        seen = evaluated & _was_learned(before, manifest, records, root)
        if seen.any():
            raise EcgkitError(
                f"{name} has learned from {before}, and {int(seen.sum()):,} records of fold 9 or 10 of {dataset} are "
                f"of patients in it, the first is {records['record_id'][seen].iloc[0]}: preprocess the data with the "
                "folds that the weights were trained with, leave out these records, or choose other weights"
            )


def _was_learned(before: str, manifest: Mapping[str, Any], records: pd.DataFrame, root: Path) -> NDArray[np.bool_]:
    """Return which records are of patients in folds 1-8 of an earlier dataset, as far as that is known."""
    kind = kind_of(manifest)
    if before and (root / paths.PROCESSED / before / MANIFEST).is_file():
        earlier, their_records = read_records(before, root)
        learned = their_records[their_records["fold"].isin(TRAIN_FOLDS)]
        if kind_of(earlier) == kind:
            return patient_keys(records["patient_id"]).isin(patient_keys(learned["patient_id"])).to_numpy(bool)
        return np.isin(origins(records, kind), np.unique(origins(learned, kind_of(earlier))))
    # The folds of PTB-XL are published; in another division, or another collection, they are not known.
    is_published = kind == PTBXL and "split" not in manifest["request"]
    if is_published or not before.startswith(PTBXL):
        return np.zeros(len(records), bool)
    return origins(records, kind) == PTBXL


def read_records(dataset: str, root: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the manifest and the records of a processed dataset."""
    folder = root / paths.PROCESSED / dataset
    return read_manifest(folder), open_dataset(folder, label_set=None).records
