"""Sources whose records have any rate and length: resampled, cut or filled, and refused if they have a defect."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.io import file_name
from ecgkit.readers.base import RecordFiles
from ecgkit.signals.ecg import ECG
from ecgkit.signals.prepare import at_rate
from ecgkit.sources.base import Source

LARGEST = 20.0
"""A value in mV this far from the median of its lead is not an ECG; of PTB-XL's 21,799 records, none has one."""
SHORTEST_SHARE = 0.5
"""A record that holds a smaller share of the length asked for is refused."""
MARGIN = 1.0
"""Seconds after the end of what is kept that the resampling filter reads."""

LENGTH = "the start of a longer record is kept; what a shorter one lacks is missing"
STRICT_LENGTH = (
    "the start of a longer record is kept; a shorter one ends in the mean of each lead, which is its offset; "
    "one of less than half the length is quarantined"
)


@dataclass(frozen=True)
class FittedReader:
    """Reads records at one rate and of one length.

    Attributes
    ----------
    files : RecordFiles
        Reads them as they are.
    sampling_rate : int
        In Hz.
    n_samples : int
        Samples per lead.
    strict : bool
        Whether records with a defect are refused; see `find_defect`.
    refused : mapping of str to str
        Records that are refused unread, and why.
    """

    files: RecordFiles
    sampling_rate: int
    n_samples: int
    strict: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)

    def read(self, record_id: str) -> ECG:
        """Read one record from its start; a short one ends in the mean of each lead, or in NaN unless strict."""
        if record_id in self.refused:
            raise UnreadableRecordError(f"{record_id} {self.refused[record_id]}")
        ecg, seconds = self.files.read(record_id), self.n_samples / self.sampling_rate
        if self.strict and (defect := find_defect(ecg, seconds)):
            raise UnreadableRecordError(f"{record_id} {defect}")
        start = ecg.signal[:, : ceil((seconds + MARGIN) * ecg.sampling_rate)]
        rates = {"sampling_rate": ecg.sampling_rate, "target_rate": self.sampling_rate}
        found = at_rate(start, **rates, keep_missing=True)[:, : self.n_samples]
        means = np.ma.masked_invalid(found).mean(axis=1, keepdims=True)  # of a lead without a value: none
        fill = np.ma.filled(means, np.nan) if self.strict else np.nan
        signal = np.full((len(found), self.n_samples), fill, np.float32)
        signal[:, : found.shape[1]] = found
        return replace(ecg, signal=signal, sampling_rate=self.sampling_rate, record_id=record_id)

    def subset(self, record_ids: Sequence[str]) -> FittedReader:
        """Return what a worker process needs to read these records."""
        refused = {name: self.refused[name] for name in record_ids if name in self.refused}
        return replace(self, files=self.files.subset(record_ids), refused=refused)


class FittedSource(Source):
    """A source whose records are resampled to any rate and have one length; longer ones are cut at their end.

    Parameters
    ----------
    folder : Path or str
        The folder of the data set.
    sampling_rate : int, default 100
        In Hz; every record is resampled to it.
    seconds : float, default 10.0
        Length of each record.
    seed : int, default 0
        Of the folds, where the data set has none: patients are divided at random.

    Raises
    ------
    EcgkitError
        If a length is not allowed, or the tables are not those of the data set.

    Attributes
    ----------
    refused : mapping of str to str
        Records that are quarantined unread, and why.
    """

    sampling_rates: ClassVar[tuple[int, ...]] = (100,)
    any_rate = True
    folder: Path
    refused: Mapping[str, str] = MappingProxyType({})
    _reader: FittedReader
    _files_sha256 = ""

    def __init__(self, folder: Path | str, *, sampling_rate: int = 100, seconds: float = 10.0, seed: int = 0) -> None:
        self.folder = Path(folder).absolute()
        self.name = file_name(self.folder.name)
        files = self._open(seed)
        self._fit(files, sampling_rate=sampling_rate, seconds=seconds)

    def _open(self, seed: int) -> RecordFiles:
        """Read the tables, and return what reads the records; a source that has no `__init__` of its own needs it."""
        raise NotImplementedError

    def _fit(self, files: RecordFiles, *, sampling_rate: int, seconds: float, strict: bool = True) -> None:
        """Set the rate, the length and the reader."""
        if not 1 <= seconds <= 3600:
            raise EcgkitError(f"seconds is {seconds:g}: give a length from 1 to 3,600 s")
        self.sampling_rate, self.n_samples = sampling_rate, round(seconds * sampling_rate)
        self._reader = FittedReader(files, sampling_rate, self.n_samples, strict, dict(self.refused))

    def read(self, record_id: str) -> ECG:
        """Read one record; see `Source.read`."""
        if not (self.records["record_id"] == record_id).any():
            raise EcgkitError(f"no record {record_id!r} in {self.name}: it has {len(self.records):,} records")
        return self._reader.read(record_id)

    def reader(self, record_ids: Sequence[str]) -> FittedReader:
        """Return what a worker process needs to read these records, without the tables."""
        return self._reader.subset(record_ids)

    def identity(self) -> dict[str, object]:
        """Return what determines the contents of the records; see `Source.identity`."""
        of_files = {"files_sha256": self._files_sha256} if self._files_sha256 else {}  # of `states_sha256`
        length = STRICT_LENGTH if self._reader.strict else LENGTH
        return super().identity() | {"kind": type(self).name, "n_samples": self.n_samples, "length": length} | of_files


def find_defect(ecg: ECG, seconds: float) -> str:
    """Return why a record cannot be used; empty if it can.

    Parameters
    ----------
    ecg : ECG
        In mV, of any rate and length.
    seconds : float
        The length that is kept.

    Returns
    -------
    str
        Leads that are missing or NaN throughout, a length under half of what is kept, or, in what is kept, every lead
        constant or a value further than 20 mV from the median of its lead.
    """
    if ecg.missing_leads:
        return f"lacks the leads {', '.join(ecg.missing_leads)}"
    if ecg.duration < SHORTEST_SHARE * seconds:
        return f"is {ecg.duration:g} s long, less than half of the {seconds:g} s that are kept"
    kept = ecg.signal[:, : ceil(seconds * ecg.sampling_rate)]
    is_known = np.isfinite(kept)
    known = kept if is_known.all() else np.where(is_known, kept, np.nan)
    if not (np.fmax.reduce(known, axis=1) > np.fmin.reduce(known, axis=1)).any():
        return "is flat, every lead is constant"
    largest = np.fmax.reduce(np.abs(known), axis=1)
    if largest.max() > LARGEST / 2:  # the median takes longer
        largest = np.nanmax(np.abs(known - np.nanmedian(known, axis=1, keepdims=True)), axis=1)
        if largest.max() > LARGEST:
            return f"has a value {largest.max():,.4g} mV away from the rest of its lead, more than {LARGEST:g} mV"
    return ""


def states_sha256(folder: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of the names, sizes and times of change of files; those that are absent count as such."""
    digest = hashlib.sha256()
    for name in names:
        try:
            state = os.stat(f"{folder}/{name}")  # noqa: PTH116  # a Path for each of 100,000 files would take longer
        except OSError:
            digest.update(f"{name} absent\n".encode())
        else:
            digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
