"""Opening a processed dataset: its tables in memory, its signals as a memory map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ecgkit.datasets.contents import as_plain, check_contents, map_signals, read_labels, read_records
from ecgkit.datasets.manifest import labelled_rows
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import Filters
from ecgkit.signals.prepare import Preparation
from ecgkit.stats.folds import ALL_FOLDS, PARTS, TRAIN_FOLDS, VALIDATION_FOLD, patients_in_two_parts

Signals = np.memmap[Any, np.dtype[np.int16]]

ONLY = "only"
"""Stands for the label set of a dataset that has a single one."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A processed dataset, opened.

    Attributes
    ----------
    path : Path
        Its folder.
    name : str
        Its name.
    manifest : dict
        ``dataset.json``.
    records : DataFrame
        One row per record, index ``0..n-1``: `ecgkit.sources.base.CORE_COLUMNS`, the further columns of the source,
        ``flat_leads`` (such as ``"V3,V4"``, missing if there are none) and ``nan_samples`` (the repaired ones).
    labels : DataFrame of bool
        One column per class, the rows as in ``records``; no columns without a label set. Nullable booleans, with
        missing values, if a label is unknown.
    label_set : str or None
        The label set.
    classes : tuple of str
        The columns of ``labels``.
    signals : ndarray of int16, shape (all records, 12, samples)
        Microvolts, a read-only memory map.
    rows : ndarray of int64, shape (n,)
        The row of ``signals`` of each row of ``records``.
    sampling_rate : int
        In Hz.
    n_samples : int
        Samples per lead.
    mean, std : ndarray of float32, shape (12,)
        Statistics of the training folds in mV, without the offset of each lead; NaN without a training record.
    fingerprint : str
        Equal for equal contents.
    n_unlabelled : int
        Records left out because they have no labels of the label set.
    unlabelled : Dataset or None
        Those of them whose labels are known and all false, which other ways of counting call negative for each class.
    opened_folds : tuple of int
        The folds that were opened; records of other folds are left out.
    """

    path: Path
    name: str
    manifest: dict[str, Any]
    records: pd.DataFrame
    labels: pd.DataFrame
    label_set: str | None
    classes: tuple[str, ...]
    signals: Signals
    rows: NDArray[np.int64]
    sampling_rate: int
    n_samples: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    fingerprint: str
    n_unlabelled: int
    unlabelled: Dataset | None = None
    opened_folds: tuple[int, ...] = ALL_FOLDS

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def __repr__(self) -> str:
        labels = f"{self.label_set}: {', '.join(self.classes)}" if self.label_set else "no label set"
        signals = f"{len(self):,} records of {self.n_samples} samples at {self.sampling_rate} Hz"
        return f"<Dataset {self.name}: {signals}, {labels}>"

    def folds(self, *folds: int) -> NDArray[np.int64]:
        """Return the positions in ``records`` of some folds, in order."""
        return np.flatnonzero(self.records["fold"].isin(folds).to_numpy())

    def subset(self, positions: ArrayLike) -> Dataset:
        """Return the records at some positions, in this order."""
        chosen = np.asarray(positions, np.int64)
        return replace(
            self,
            records=self.records.iloc[chosen].reset_index(drop=True),
            labels=self.labels.iloc[chosen].reset_index(drop=True),
            rows=self.rows[chosen],
        )

    def signal(self, position: int) -> NDArray[np.float32]:
        """Return one record in mV, shape (12, samples); ``position`` counts in ``records``."""
        return self.signals[self.rows[position]].astype(np.float32) / np.float32(1000)

    def preparation(self, n_samples: int | None = None) -> Preparation:
        """Return the preparation of a network for these records, which reads so many samples at once (default: all)."""
        return Preparation(
            sampling_rate=self.sampling_rate,
            n_samples=n_samples or self.n_samples,
            mean=self.mean,
            std=self.std,
            filters=Filters.from_dict(self.manifest["filters"]),
        )

    def check_splits(self) -> None:
        """Check that a model can be trained, validated and tested without a leak.

        Raises
        ------
        EcgkitError
            If a patient is in two splits, or folds 1-8 together, fold 9 or fold 10 hold no record. A split that was
            not opened is not checked.
        """
        for split, folds in PARTS.items():
            if set(folds) & set(self.opened_folds) and not len(self.folds(*folds)):
                raise EcgkitError(f"dataset {self.name} has no record in {split}: use a dataset with all ten folds")
        self.check_patients()

    def check_patients(self) -> None:
        """Check that no patient is in two of the splits folds 1-8, fold 9 and fold 10.

        Raises
        ------
        EcgkitError
            If one is.
        """
        shared = patients_in_two_parts(self.records)
        if len(shared):
            raise EcgkitError(
                f"{len(shared)} patients of dataset {self.name} are in two splits, the first is patient {shared[0]}: "
                "assign folds by patient"
            )

    def check_outcomes(self) -> None:
        """Check that each class has positives and negatives to train on, and to choose the best epoch by.

        Raises
        ------
        EcgkitError
            Naming the classes that lack one in folds 1-8 or in fold 9.
        """
        training = self.labels.iloc[self.folds(*TRAIN_FOLDS)]
        for where, table in (("folds 1-8", training), ("fold 9", self.labels.iloc[self.folds(VALIDATION_FOLD)])):
            n_positive = table.sum()
            for what, counts in (("positive", n_positive), ("negative", table.count() - n_positive)):
                names = [str(name) for name in counts.index[counts == 0]]
                if not names:
                    continue
                shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                least = int(training[names].sum().max()) + 1
                way_out = f"leave out rare classes with --min-records {least}, or choose another label set"
                if what == "negative" or least > training.sum().max():
                    way_out = "no --min-records helps, choose another label set or dataset"
                raise EcgkitError(f"{self.name} has no {what} record of {shown} in {where}: {way_out}")

    def __getstate__(self) -> dict[str, object]:
        # A memory map would be sent to another process as a copy of all signals.
        return {name: value for name, value in self.__dict__.items() if name != "signals"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        object.__setattr__(self, "signals", map_signals(self.path, self.manifest))


def open_dataset(
    directory: Path | str,
    *,
    label_set: str | None = ONLY,
    min_records: int = 0,
    folds: Sequence[int] | None = None,
    negative_in: Sequence[int] = (),
    verify: bool = False,
) -> Dataset:
    """Open a processed dataset.

    Parameters
    ----------
    directory : Path or str
        Its folder.
    label_set : str or None
        Which labels to load, None for none; by default those of a dataset that has a single label set. Records of which
        no label is known, or whose labels are all false where that means unlabelled, are left out and counted.
    min_records : int
        Classes with fewer records in folds 1-8 are left out, before records without labels are.
    folds : sequence of int, optional
        Records of other folds are left out of everything; by default all ten are opened.
    negative_in : sequence of int
        Folds whose records without a true label are kept, as negative for each class, where all-false means unlabelled.
    verify : bool
        Compare ``signals.npy`` with its checksum although size and time stamps are unchanged; see
        `ecgkit.datasets.contents.check_contents`.

    Returns
    -------
    Dataset
        Its signals are a memory map.

    Raises
    ------
    EcgkitError
        If there is no dataset, a file of it is missing or was changed, it has no such label set, or no class or record
        remains.
    """
    directory = Path(directory).absolute()
    manifest = check_contents(directory, verify=verify)
    records, signals = read_records(directory, manifest), map_signals(directory, manifest)
    if label_set == ONLY:
        label_set = next(iter(manifest["labels"])) if len(manifest["labels"]) == 1 else None
    chosen = np.ones(len(records), bool) if folds is None else records["fold"].isin(folds).to_numpy()
    labels = pd.DataFrame(index=records.index)
    labelled = known = np.ones(len(records), bool)
    if label_set is not None:
        check_choice(f"label set of dataset {directory.name}", label_set, manifest["labels"])
        labels = _frequent_classes(read_labels(directory, manifest, label_set), records, min_records)
        labelled = labelled_rows(labels, manifest["labels"][label_set]["all_false"])
        known = labelled_rows(labels, "negative")
        if not len(labels.columns) or not (chosen & labelled).any():
            raise EcgkitError(
                f"no class of {label_set} in dataset {directory.name} has {min_records} records in folds 1-8: "
                "give a smaller number"
            )
    keep = labelled | (known & records["fold"].isin(negative_in).to_numpy())
    whole = Dataset(
        path=directory,
        name=directory.name,
        manifest=manifest,
        records=records,
        labels=labels,
        label_set=label_set,
        classes=tuple(labels.columns),
        signals=signals,
        rows=np.arange(len(records)),
        sampling_rate=manifest["sampling_rate"],
        n_samples=manifest["n_samples"],
        mean=_per_lead(manifest["standardisation"]["mean"]),
        std=_per_lead(manifest["standardisation"]["std"]),
        fingerprint=manifest["fingerprint"],
        n_unlabelled=int((chosen & ~keep).sum()),
        opened_folds=ALL_FOLDS if folds is None else tuple(folds),
    )
    opened, unlabelled = (whole.subset(np.flatnonzero(chosen & rows)) for rows in (keep, known & ~keep))
    unlabelled = replace(unlabelled, labels=as_plain(unlabelled.labels))
    return replace(opened, labels=as_plain(opened.labels), unlabelled=unlabelled)


def _frequent_classes(labels: pd.DataFrame, records: pd.DataFrame, min_records: int) -> pd.DataFrame:
    """Keep the classes with enough records in folds 1-8; folds 9 and 10 have no influence on what is trained."""
    counts = labels[records["fold"].isin(TRAIN_FOLDS).to_numpy()].sum()
    return labels.loc[:, counts >= max(min_records, 0)]


def _per_lead(values: Sequence[float] | None) -> NDArray[np.float32]:
    """Convert a statistic of the manifest; NaN where it has none."""
    return np.full(len(LEADS), np.nan, np.float32) if values is None else np.array(values, np.float32)
