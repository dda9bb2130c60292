"""The part of a build that runs in worker processes: it reads a chunk of records, prepares them and writes them.

It imports only NumPy and what the filters need, since every worker waits for its imports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ecgkit.errors import EcgkitError, UnreadableRecordError
from ecgkit.io import json_bytes, read_json, write_atomically
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import Filters
from ecgkit.signals.prepare import LARGEST, clip_to_int16, filter_microvolts, remove_offset, to_microvolts
from ecgkit.signals.quality import check_levels

if TYPE_CHECKING:
    from ecgkit.sources.base import RecordReader

BLOCK = 4
"""Records that are filtered together: few, so that temporary arrays stay in the cache and malloc keeps their pages."""


@dataclass(frozen=True)
class Chunk:
    """A run of records to read, and where to write them; picklable, and the same for every executor.

    Attributes
    ----------
    folder : str
        The folder under construction, absolute, with ``signals.npy`` in full length and a folder ``chunks``.
    index : int
        Number of the chunk.
    first_row : int
        Row of its first record.
    record_ids : tuple of str
        Its records.
    training : tuple of bool
        Which of them are in a training fold.
    reader : RecordReader
        Reads them.
    filters : Filters
        The filters to apply.
    sampling_rate : int
        In Hz; a record of another rate is unreadable.
    n_samples : int
        Samples per lead; a record of another length is unreadable.
    data_offset : int
        Bytes before the first row in ``signals.npy``.
    anyway : bool
        Accept records whose levels are not those of an ECG in mV.
    """

    folder: str
    index: int
    first_row: int
    record_ids: tuple[str, ...]
    training: tuple[bool, ...]
    reader: RecordReader
    filters: Filters
    sampling_rate: int
    n_samples: int
    data_offset: int
    anyway: bool = False


@dataclass
class ChunkReport:
    """What happened in a chunk, by row of ``signals.npy``; kept as ``chunks/INDEX.json`` until the build is complete.

    Attributes
    ----------
    quarantined : dict
        Row to reason.
    flat_leads : dict
        Row to the flat leads, such as ``"V3,V4"``.
    nan_samples : dict
        Row to the number of samples that were NaN.
    clipped_samples : dict
        Row to the number of samples beyond int16.
    sums, squares : list of int
        For each lead the sum and the sum of squares over the training records without their offsets, in microvolts;
        exact.
    n_training : int
        Number of training records that were read.
    n_samples : int
        Their samples per lead, added up.
    sha256 : str
        Of the rows that were read.
    """

    quarantined: dict[str, str] = field(default_factory=dict)
    flat_leads: dict[str, str] = field(default_factory=dict)
    nan_samples: dict[str, int] = field(default_factory=dict)
    clipped_samples: dict[str, int] = field(default_factory=dict)
    sums: list[int] = field(default_factory=lambda: [0] * len(LEADS))
    squares: list[int] = field(default_factory=lambda: [0] * len(LEADS))
    n_training: int = 0
    n_samples: int = 0
    sha256: str = ""


_REPORT = TypedDict("_REPORT", get_type_hints(ChunkReport))  # type: ignore[misc] # the same fields, as JSON


def report_path(folder: Path | str, index: int) -> Path:
    """Return the path of the report of a chunk; it is written last, so a chunk with a report is finished."""
    return Path(folder) / "chunks" / f"{index:06d}.json"


def read_report(folder: Path | str, index: int) -> ChunkReport:
    """Read the report of a finished chunk."""
    way_out = f"remove {folder}, and run the preprocessing again"
    found = read_json(report_path(folder, index), _REPORT, way_out=way_out)
    return ChunkReport(**{name: found[name] for name in get_type_hints(ChunkReport)})


def is_finished(chunk: Chunk) -> bool:
    """Return True if a chunk has a report, and its rows are those that were written."""
    try:
        report = read_report(chunk.folder, chunk.index)
    except EcgkitError:  # none, or a damaged one
        return False
    shape = (len(chunk.record_ids), len(LEADS), chunk.n_samples)
    start = chunk.data_offset + chunk.first_row * 2 * shape[1] * shape[2]
    rows = np.memmap(Path(chunk.folder) / "signals.npy", np.int16, "r", start, shape)
    return rows_sha256(rows, _readable(chunk, report)) == report.sha256


def rows_sha256(rows: NDArray[np.int16], readable: NDArray[np.bool_]) -> str:
    """Return the SHA-256 of the readable rows."""
    return hashlib.sha256((rows if readable.all() else rows[readable]).data).hexdigest()


def _readable(chunk: Chunk, report: ChunkReport) -> NDArray[np.bool_]:
    """Return which records of a chunk could be read."""
    return np.array([str(chunk.first_row + row) not in report.quarantined for row in range(len(chunk.record_ids))])


def write_chunk(chunk: Chunk) -> None:
    """Read and prepare the records of a chunk, and write them to their rows."""
    report = ChunkReport()
    n_records = len(chunk.record_ids)
    rows = np.zeros((n_records, len(LEADS), chunk.n_samples), np.int16)
    for first in range(0, n_records, BLOCK):
        _fill(chunk, rows, range(first, min(first + BLOCK, n_records)), report)
    readable = _readable(chunk, report)
    _add_statistics(rows, readable & chunk.training, chunk.sampling_rate, report)
    report.sha256 = rows_sha256(rows, readable)
    with (Path(chunk.folder) / "signals.npy").open("r+b") as file:
        # Written, not mapped: on a full disk a write fails with an error, while a mapped page kills the process.
        file.seek(chunk.data_offset + chunk.first_row * rows[0].nbytes)
        file.write(rows.data)
    write_atomically(report_path(chunk.folder, chunk.index), json_bytes(asdict(report)))


def _fill(chunk: Chunk, rows: NDArray[np.int16], positions: Sequence[int], report: ChunkReport) -> None:
    """Read and prepare the records at these positions of the chunk."""
    block: dict[int, NDArray[np.floating]] = {}
    for position in positions:
        key = str(chunk.first_row + position)
        try:
            block[position] = _read(chunk, chunk.record_ids[position], key, report)
        except (EcgkitError, OSError) as error:
            report.quarantined[key] = " ".join(str(error).split())
    if block:
        stacked = np.stack(list(block.values()))
        rounded = filter_microvolts(stacked, chunk.filters, sampling_rate=chunk.sampling_rate)
        _count_clipped(rounded, [str(chunk.first_row + position) for position in block], report)
        rows[list(block)] = clip_to_int16(rounded)


def _read(chunk: Chunk, record_id: str, key: str, report: ChunkReport) -> NDArray[np.floating]:
    """Read one record in microvolts, and report flat leads and missing samples."""
    ecg = chunk.reader.read(record_id)
    if ecg.sampling_rate != chunk.sampling_rate:
        raise UnreadableRecordError(f"sampled at {ecg.sampling_rate:g} Hz, not at {chunk.sampling_rate} Hz")
    expected = (len(LEADS), chunk.n_samples)
    if ecg.signal.shape != expected:
        raise UnreadableRecordError(f"has the shape {ecg.signal.shape}, not {expected}")
    if not chunk.anyway:
        check_levels(ecg, allow_flat=True)
    n_missing = int(ecg.signal.size - np.isfinite(ecg.signal).sum())
    if n_missing:
        report.nan_samples[key] = n_missing
    microvolts = to_microvolts(ecg.signal, sampling_rate=ecg.sampling_rate, target_rate=chunk.sampling_rate)
    flat = np.ptp(microvolts, axis=1) == 0
    if flat.any():
        report.flat_leads[key] = ",".join(name for name, is_flat in zip(LEADS, flat, strict=True) if is_flat)
    return microvolts


def _count_clipped(rounded: NDArray[np.floating], keys: Sequence[str], report: ChunkReport) -> None:
    """Count the samples of each record that are beyond int16."""
    if max(rounded.max(), -rounded.min()) > LARGEST:
        counts = (np.abs(rounded) > LARGEST).sum(axis=(1, 2)).tolist()
        report.clipped_samples |= {key: count for key, count in zip(keys, counts, strict=True) if count}


def _add_statistics(
    rows: NDArray[np.int16], training: NDArray[np.bool_], sampling_rate: int, report: ChunkReport
) -> None:
    """Add up the training records; float64 holds these integers exactly, since a block's squares stay below 2**53."""
    positions = np.flatnonzero(training)
    report.n_training, report.n_samples = len(positions), len(positions) * rows.shape[2]
    sums, squares = np.zeros(len(LEADS), np.int64), np.zeros(len(LEADS), np.int64)
    for first in range(0, len(positions), BLOCK):
        values = remove_offset(rows[positions[first : first + BLOCK]].astype(np.float64), sampling_rate=sampling_rate)
        sums += values.sum(axis=(0, 2)).astype(np.int64)
        squares += np.einsum("rls,rls->l", values, values).astype(np.int64)
    report.sums, report.squares = sums.tolist(), squares.tolist()
