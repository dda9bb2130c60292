"""Processed datasets: built in parallel from a source, resumable, and opened as a memory map."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ecgkit.datasets.chunks import Chunk, ChunkNotes, notes_path, read_notes, start_worker, write_chunk
from ecgkit.errors import EcgkitError, check_choice
from ecgkit.io import check_space, disk_errors, json_bytes, locked, write_atomically
from ecgkit.progress import progress_bar, say
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import Filters
from ecgkit.sources.base import Source
from ecgkit.stats.folds import ALL_FOLDS, PARTS, TRAIN_FOLDS, patients_in_two_parts

FORMAT_VERSION = 2
DEFAULT_RATE = 100
NO_FILTERS = Filters()
_CHUNK_RECORDS = 128
_CHUNK_BYTES = 16 * 2**20
_REPAIR = (
    "a stretch of NaN is interpolated linearly along its lead and held at the ends; a lead that is NaN throughout is 0 "
    "and counts as flat; a record that is NaN throughout is quarantined; values beyond int16 are clipped"
)


@dataclass(frozen=True, eq=False)
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
        One row a record that is kept, index ``0..n-1``: `ecgkit.sources.base.RECORD_COLUMNS`, then ``flat_leads`` (such
        as ``"V3,V4"``, missing if there are none) and ``nan_samples`` (samples that were NaN and were repaired).
    labels : DataFrame of bool
        One column a class, the rows as in ``records``; no columns without a label set.
    label_set : str or None
        Which labels.
    classes : tuple of str
        The columns of ``labels``.
    signals : ndarray of int16, shape (all records, 12, samples)
        Microvolts, a read-only memory map.
    rows : ndarray of int64, shape (n,)
        The row of ``signals`` of each row of ``records``.
    sampling_rate : int
        In Hz.
    n_samples : int
        Samples a lead.
    mean, std : ndarray of float32, shape (12,)
        Statistics of the training folds in mV; NaN if the dataset has no training record.
    fingerprint : str
        Equal for equal contents.
    n_unlabelled : int
        Records left out because they carry no class of the label set.
    opened_folds : tuple of int
        The folds that were asked for; records of others are not there.
    """

    path: Path
    name: str
    manifest: dict[str, Any]
    records: pd.DataFrame
    labels: pd.DataFrame
    label_set: str | None
    classes: tuple[str, ...]
    signals: np.memmap[Any, np.dtype[np.int16]]
    rows: NDArray[np.int64]
    sampling_rate: int
    n_samples: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    fingerprint: str
    n_unlabelled: int
    opened_folds: tuple[int, ...] = ALL_FOLDS

    def __len__(self) -> int:
        """Give the number of records that are kept."""
        return len(self.records)

    def folds(self, *folds: int) -> NDArray[np.int64]:
        """Give the positions in ``records`` of these folds, in order."""
        return np.flatnonzero(self.records["fold"].isin(folds).to_numpy())

    def signal(self, position: int) -> NDArray[np.float32]:
        """Give one record in mV, shape (12, samples); ``position`` counts in ``records``."""
        return self.signals[self.rows[position]].astype(np.float32) / np.float32(1000)

    def check_splits(self) -> None:
        """Make sure that a model can be trained, validated and tested without a leak.

        Raises
        ------
        EcgkitError
            If a patient is in two parts, or folds 1-8 together, fold 9 or fold 10 hold no record. A part that was not
            opened is not asked for.
        """
        for words, folds in PARTS.items():
            if set(folds) & set(self.opened_folds) and not len(self.folds(*folds)):
                raise EcgkitError(f"dataset {self.name} has no record in {words}: use a dataset with all ten folds")
        self.check_patients()

    def check_patients(self) -> None:
        """Make sure that no patient is in two of the parts folds 1-8, fold 9 and fold 10.

        Raises
        ------
        EcgkitError
            If one is.
        """
        shared = patients_in_two_parts(self.records)
        if len(shared):
            raise EcgkitError(
                f"{len(shared)} patients of dataset {self.name} are in two parts, the first is patient {shared[0]}: "
                "assign folds by patient"
            )

    def __getstate__(self) -> dict[str, object]:
        # A memory map would travel to another process as a copy of all signals.
        return {name: value for name, value in self.__dict__.items() if name != "signals"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        object.__setattr__(self, "signals", _open_signals(self.path))


def dataset_name(source: Source, filters: Filters = NO_FILTERS) -> str:
    """Name a dataset: the source, and rate and filters where they are not the default (``ptbxl_500hz_bandpass``)."""
    rate = "" if source.sampling_rate == DEFAULT_RATE else f"{source.sampling_rate}hz"
    return "_".join(word for word in (source.name, rate, filters.name_suffix()) if word)


def build(
    source: Source,
    directory: Path | str,
    *,
    filters: Filters = NO_FILTERS,
    executor: Executor | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> Dataset:
    """Build a processed dataset, or go on with one that was cut off, or keep the one that is there.

    Parameters
    ----------
    source : Source
        The records.
    directory : Path or str
        The folder to make, ``processed_datasets/NAME``. It appears when all is done; until then the work lies in the
        hidden folder ``.NAME.partial`` beside it, and the next call for the same source and filters goes on with it.
    filters : Filters
        What the signals go through.
    executor : Executor, optional
        Where the records are read: any `concurrent.futures.Executor` whose workers see the same files. By default a
        pool of processes on this machine.
    jobs : int, optional
        Number of processes of the default pool; by default one for each core.
    progress : bool
        Whether to say how far it is.
    overwrite : bool
        Build anew and replace the dataset in the place, whatever it holds. It stays until the new one is complete.

    Returns
    -------
    Dataset
        Opened without a label set.

    Raises
    ------
    EcgkitError
        If no record can be read, the disk is full, another dataset is in the place, or another process builds this one.
    """
    filters.check(source.sampling_rate)
    directory = Path(directory).absolute()
    request = _request(source, filters)
    partial = directory.with_name(f".{directory.name}.partial")
    with _disk_errors(partial):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(
            partial.with_name(f"{partial.name}.lock"),
            f"another process is building {directory.name}: wait until it is done, or end it",
        ):
            if _is_there(directory, request, overwrite=overwrite):
                say(f"{directory.name}: nothing has changed, the dataset is kept", shown=progress)
                return open_dataset(directory)
            partial.mkdir(exist_ok=True)
            chunks = _prepare(partial, source, filters, request)
            _run_chunks(chunks, executor, jobs=jobs, progress=progress, name=directory.name)
            _finish(partial, directory, source, request, n_chunks=_n_chunks(source))
    dataset = open_dataset(directory)
    quarantined = dataset.manifest["quarantined"]["count"]
    say(
        f"{directory.name}: {len(dataset):,} records" + (f", {quarantined:,} quarantined" if quarantined else ""),
        shown=progress,
    )
    return dataset


def is_current(directory: Path | str, source: Source, filters: Filters = NO_FILTERS) -> bool:
    """Tell whether a dataset is there already, complete, from the same source through the same filters.

    Parameters
    ----------
    directory : Path or str
        The folder that `build` would make.
    source : Source
        The records.
    filters : Filters
        What the signals go through.
    """
    return _request_of(Path(directory)) == _request(source, filters)


def open_dataset(
    directory: Path | str,
    *,
    label_set: str | None = None,
    min_records: int = 0,
    folds: Sequence[int] | None = None,
) -> Dataset:
    """Open a processed dataset.

    Parameters
    ----------
    directory : Path or str
        Its folder.
    label_set : str, optional
        Which labels to load. Records without a label of the set are left out and counted.
    min_records : int
        Classes that fewer records of folds 1-8 carry are left out, before records without a label are.
    folds : sequence of int, optional
        Records of other folds are left out of everything; by default all ten are there.

    Returns
    -------
    Dataset
        Its signals are a memory map.

    Raises
    ------
    EcgkitError
        If there is no dataset, it is damaged, it has no such label set, or no class or record remains.
    """
    directory = Path(directory).absolute()
    manifest = read_manifest(directory)
    try:
        records = pd.read_parquet(directory / "records.parquet")
        signals = _open_signals(directory)
    except (OSError, ValueError, EOFError) as error:
        raise EcgkitError(f"dataset {directory} is damaged ({error}): remove it and build it again") from error
    if signals.shape != (len(records), len(LEADS), manifest["n_samples"]):
        raise EcgkitError(
            f"dataset {directory} is damaged: signals {signals.shape} for {len(records)} records; build it again"
        )
    in_training = records["fold"].isin(TRAIN_FOLDS).to_numpy()
    rows = np.arange(len(records)) if folds is None else np.flatnonzero(records["fold"].isin(folds).to_numpy())
    records = records.iloc[rows]
    labels = pd.DataFrame(index=records.index)
    keep = np.ones(len(records), bool)
    if label_set is not None:
        check_choice(f"label set of dataset {directory.name}", label_set, manifest["labels"])
        try:
            labels = pd.read_parquet(directory / "labels" / f"{label_set}.parquet")
        except (OSError, ValueError) as error:
            raise EcgkitError(f"dataset {directory} is damaged ({error}): remove it and build it again") from error
        # What is trained is chosen where it is fitted: folds 9 and 10 have no say in it.
        counts = labels[in_training].sum()
        labels = labels.iloc[rows].loc[:, counts >= max(min_records, 0)]
        keep = labels.any(axis=1).to_numpy(bool)
        if not keep.any():
            raise EcgkitError(
                f"no class of {label_set} in dataset {directory.name} has {min_records} records in folds 1-8: "
                "ask for fewer"
            )
    statistics = manifest["standardisation"]
    return Dataset(
        path=directory,
        name=directory.name,
        manifest=manifest,
        records=records[keep].reset_index(drop=True),
        labels=labels[keep].reset_index(drop=True),
        label_set=label_set,
        classes=tuple(labels.columns),
        signals=signals,
        rows=rows[keep],
        sampling_rate=manifest["sampling_rate"],
        n_samples=manifest["n_samples"],
        mean=_statistic(statistics["mean"]),
        std=_statistic(statistics["std"]),
        fingerprint=manifest["fingerprint"],
        n_unlabelled=int((~keep).sum()),
        opened_folds=ALL_FOLDS if folds is None else tuple(folds),
    )


def export_npz(dataset: Dataset, path: Path | str, *, standardised: bool = False) -> Path:
    """Write a dataset as one ``.npz`` file without pickles, as other projects expect it.

    Its arrays are ``X`` (records, samples, 12) in mV, ``y`` (records, classes) of 0 and 1, ``classes``, ``leads``,
    ``sampling_rate`` in Hz, ``record_id``, ``patient_id``, ``fold``, ``age`` in years, ``sex`` ("male", "female" or
    ""), ``height`` in cm, ``weight`` in kg, ``device``, ``mean`` and ``std`` (of each lead over folds 1-8, in mV),
    ``units`` and ``about``, a text that says all this.

    Parameters
    ----------
    dataset : Dataset
        What to write; open it with the label set that is wanted.
    path : Path or str
        The file to make; ``.npz`` is added if it is not there. A file in its place is replaced.
    standardised : bool
        Whether each lead of ``X`` has been standardised with ``mean`` and ``std``; ``X`` then has no unit.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EcgkitError
        If the disk is full, or the dataset has no training record to standardise with.
    """
    import zipfile

    path = Path(path).absolute()
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    if standardised and not np.isfinite(dataset.mean).all():
        raise EcgkitError(f"dataset {dataset.name} has no record in folds 1-8: it cannot be standardised")
    draft = path.with_name(f".{path.name}.partial")
    try:
        with _disk_errors(draft, keeps_chunks=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for name, array in _export_arrays(dataset, standardised=standardised).items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, array, allow_pickle=False)
                with archive.open("X.npy", "w", force_zip64=True) as file:
                    _export_signals(dataset, file, standardised=standardised)
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


class _InPlace(Executor):
    """Runs each task when it is submitted, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # it belongs to the future, whatever it is
            future.set_exception(error)
        return future


def _request(source: Source, filters: Filters) -> dict[str, Any]:
    """Give what decides the contents of a dataset, as it comes back from a JSON file."""
    request = {
        "version": FORMAT_VERSION,
        "source": source.identity(),
        "filters": filters.to_dict() if filters else Filters().to_dict(),
        "chunk_records": _chunk_records(source),
    }
    result: dict[str, Any] = json.loads(json.dumps(request))
    return result


def _is_there(directory: Path, request: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the dataset asked for is there and is to be kept; an error if what is there may not be replaced."""
    if not directory.exists():
        return False
    if not (directory / "dataset.json").is_file():
        if directory.is_dir() and not any(directory.iterdir()):
            return False
        raise EcgkitError(f"{directory} is there and is no processed dataset: choose another name, or remove it")
    if overwrite:
        return False
    if _request_of(directory) == request:
        return True
    raise EcgkitError(f"{directory} holds another dataset: choose another name, or remove it, or allow to overwrite it")


def _request_of(directory: Path) -> object:
    """Read what the dataset in a folder was built from; None if there is none, or it is damaged."""
    try:
        return json.loads((directory / "dataset.json").read_text(encoding="utf-8")).get("request")
    except (OSError, ValueError, AttributeError):
        return None


def _chunk_records(source: Source) -> int:
    return max(1, min(_CHUNK_RECORDS, _CHUNK_BYTES // _record_bytes(source)))


def _n_chunks(source: Source) -> int:
    return -(-len(source.records) // _chunk_records(source))


def _record_bytes(source: Source) -> int:
    return 2 * len(LEADS) * source.n_samples


@contextmanager
def _disk_errors(folder: Path, *, keeps_chunks: bool = True) -> Iterator[None]:
    """Turn a full disk and a lost worker into one line that says what is kept."""
    kept = f"what is finished is kept in {folder}, run again to go on" if keeps_chunks else "then run again"
    try:
        with disk_errors(folder.parent, kept):
            yield
    except BrokenProcessPool as error:
        raise EcgkitError(
            f"a worker process ended before its time (out of memory, killed, or a script without "
            f'`if __name__ == "__main__":`); {kept}'
        ) from error


def _prepare(partial: Path, source: Source, filters: Filters, request: dict[str, Any]) -> list[Chunk]:
    """Make the folder ready, keep what is finished of the same request, and give the chunks that are to be done."""
    request_path = partial / "request.json"
    try:
        is_same = json.loads(request_path.read_text(encoding="utf-8")) == request
    except (OSError, ValueError):
        is_same = False
    if not is_same:
        _empty(partial)
        check_space(partial, len(source.records) * _record_bytes(source))
        (partial / "chunks").mkdir()
    n_records = len(source.records)
    offset = _write_header(partial / "signals.npy", n_records, source.n_samples)
    write_atomically(request_path, json_bytes(request))
    todo = [index for index in range(_n_chunks(source)) if not notes_path(partial, index).exists()]
    if is_same:
        check_space(partial, len(todo) * _chunk_records(source) * _record_bytes(source))
    return [_chunk(partial, source, filters, index, offset) for index in todo]


def _chunk(partial: Path, source: Source, filters: Filters, index: int, offset: int) -> Chunk:
    first, size = index * _chunk_records(source), _chunk_records(source)
    records = source.records.iloc[first : first + size]
    record_ids = tuple(records["record_id"].tolist())
    return Chunk(
        folder=str(partial),
        index=index,
        first_row=first,
        record_ids=record_ids,
        training=tuple(records["fold"].isin(TRAIN_FOLDS).tolist()),
        reader=source.reader(record_ids),
        filters=filters,
        sampling_rate=source.sampling_rate,
        n_samples=source.n_samples,
        data_offset=offset,
    )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_header(path: Path, n_records: int, n_samples: int) -> int:
    """Write or rewrite the header of ``signals.npy`` and give the file its full length; gives the header's length."""
    shape = (n_records, len(LEADS), n_samples)
    with path.open("r+b" if path.exists() else "w+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
        offset = file.tell()
        file.truncate(offset + 2 * int(np.prod(shape)))
    return offset


def _run_chunks(
    chunks: Sequence[Chunk], executor: Executor | None, *, jobs: int | None, progress: bool, name: str
) -> None:
    """Have all chunks written; whatever ends this early leaves the finished ones in place."""
    if not chunks:
        return
    own = None if executor is not None else _pool(chunks[0], len(chunks), jobs)
    futures: list[Future[int]] = []
    n_records = sum(len(chunk.record_ids) for chunk in chunks)
    bar = progress_bar(total=n_records, description=f"reading {name}", unit="records", shown=progress)
    try:
        for chunk in chunks:
            future = (executor or own or _InPlace()).submit(write_chunk, chunk)
            future.add_done_callback(functools.partial(_count, bar, len(chunk.record_ids)))
            futures.append(future)
            if future.done():
                future.result()
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done():
                future.result()
    finally:
        for future in futures:
            future.cancel()
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
        bar.close()


def _count(bar: tqdm[Any], n_records: int, future: Future[int]) -> None:
    if not future.cancelled():
        bar.update(n_records)


def _pool(chunk: Chunk, n_chunks: int, jobs: int | None) -> Executor:
    if jobs is not None and jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give 1 or more")
    workers = min(n_chunks, jobs or n_cores())
    if workers == 1 or n_chunks <= 2:
        return _InPlace()
    try:
        pickle.dumps(chunk)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        # A pool does not only fail on this: before Python 3.12 it may wait for ever.
        raise EcgkitError(f"the source cannot be sent to other processes ({error}): pass jobs=1") from error
    # Not forked: the caller may hold the threads of torch, which a fork leaves in pieces.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)


def n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finish(
    partial: Path,
    directory: Path,
    source: Source,
    request: dict[str, Any],
    *,
    n_chunks: int,
) -> None:
    """Add tables and manifest to the finished signals and move the folder into its place."""
    notes = [read_notes(partial, index) for index in range(n_chunks)]
    quarantined = _merged(notes, "quarantined")
    keep = np.ones(len(source.records), bool)
    keep[[int(row) for row in quarantined]] = False
    if not keep.any():
        shutil.rmtree(partial)
        reason = next(iter(quarantined.values()), "the source has no records")
        raise EcgkitError(f"no record of {source.name} can be read, the first because: {reason}")
    _remove_rows(partial, keep, source.n_samples, chunk_records=request["chunk_records"])
    records = _record_table(source, notes)[keep].reset_index(drop=True)
    labels = {name: table[keep].reset_index(drop=True) for name, table in source.labels.items()}
    records.to_parquet(partial / "records.parquet", index=False)
    (partial / "labels").mkdir(exist_ok=True)
    for name, table in labels.items():
        table.to_parquet(partial / "labels" / f"{name}.parquet", index=False)
    manifest = {"version": FORMAT_VERSION, "name": directory.name} | _manifest(source, request, notes, records, labels)
    manifest["fingerprint"] = _fingerprint(manifest, notes, records, labels)
    manifest["request"] = request
    write_atomically(partial / "dataset.json", json_bytes(manifest))
    shutil.rmtree(partial / "chunks")
    (partial / "request.json").unlink()
    _move(partial, directory)


def _merged(notes: Sequence[ChunkNotes], name: str) -> dict[str, Any]:
    return {row: value for chunk_notes in notes for row, value in getattr(chunk_notes, name).items()}


def _remove_rows(partial: Path, keep: NDArray[np.bool_], n_samples: int, *, chunk_records: int) -> None:
    """Take the rows of quarantined records out of ``signals.npy``, in place."""
    kept = np.flatnonzero(keep)
    if len(kept) == len(keep):
        return
    first = int(np.argmin(keep))
    for index in range(first // chunk_records, -(-len(keep) // chunk_records)):
        # From here on rows move and these chunks are not what their notes say: a resumed build must write them anew.
        notes_path(partial, index).unlink(missing_ok=True)
    path = partial / "signals.npy"
    signals = np.lib.format.open_memmap(path, mode="r+")
    for row in range(first, len(kept)):
        signals[row] = signals[kept[row]]
    signals.flush()
    del signals
    _write_header(path, len(kept), n_samples)


def _record_table(source: Source, notes: Sequence[ChunkNotes]) -> pd.DataFrame:
    records = source.records.copy()
    flat, missing = _merged(notes, "flat_leads"), _merged(notes, "nan_samples")
    records["flat_leads"] = pd.Series({int(row): text for row, text in flat.items()}, dtype="string").reindex(
        records.index
    )
    records["nan_samples"] = [missing.get(str(row), 0) for row in range(len(records))]
    return records.astype({"nan_samples": "int64"})


def _manifest(
    source: Source,
    request: dict[str, Any],
    notes: Sequence[ChunkNotes],
    records: pd.DataFrame,
    labels: Mapping[str, pd.DataFrame],
) -> dict[str, Any]:
    quarantined, clipped = _merged(notes, "quarantined"), _merged(notes, "clipped_samples")
    ids = source.records["record_id"]
    return {
        "source": {"name": source.name, "version": source.version, "identity": request["source"]},
        "n_records": len(records),
        "sampling_rate": source.sampling_rate,
        "n_samples": source.n_samples,
        "leads": list(LEADS),
        "units": "microvolts, int16, (records, leads, samples)",
        "filters": request["filters"],
        "standardisation": _standardisation(notes),
        "quarantined": {
            "count": len(quarantined),
            "records": [{"record_id": ids.iloc[int(row)], "reason": why} for row, why in quarantined.items()],
        },
        "repaired": {
            "how": _REPAIR,
            "records_with_nan": int((records["nan_samples"] > 0).sum()),
            "nan_samples": int(records["nan_samples"].sum()),
            "records_with_flat_leads": int(records["flat_leads"].notna().sum()),
            "records_clipped": len(clipped),
            "clipped_samples": sum(clipped.values()),
        },
        "folds": {str(fold): int(count) for fold, count in records["fold"].value_counts().sort_index().items()},
        "labels": {
            label_set: {
                "classes": {label: int(count) for label, count in table.sum().items()},
                "n_unlabelled": int((~table.any(axis=1)).sum()),
            }
            for label_set, table in labels.items()
        },
    }


def _standardisation(notes: Sequence[ChunkNotes]) -> dict[str, Any]:
    """Give mean and deviation of each lead over the training folds; the sums are integers, so nothing is rounded."""
    n_records = sum(chunk_notes.n_training for chunk_notes in notes)
    result: dict[str, Any] = {
        "folds": list(TRAIN_FOLDS),
        "n_records": n_records,
        "units": "mV",
        "mean": None,
        "std": None,
    }
    return result if not n_records else result | _exact_statistics(notes)


def _exact_statistics(notes: Sequence[ChunkNotes]) -> dict[str, list[float]]:
    n_samples = sum(chunk_notes.n_samples for chunk_notes in notes)
    sums = [sum(values) for values in zip(*(chunk_notes.sums for chunk_notes in notes), strict=True)]
    squares = [sum(values) for values in zip(*(chunk_notes.squares for chunk_notes in notes), strict=True)]
    variances = [(n_samples * square - total**2) / n_samples**2 for total, square in zip(sums, squares, strict=True)]
    return {
        "mean": [total / n_samples / 1000 for total in sums],
        "std": [float(np.sqrt(variance)) / 1000 for variance in variances],
    }


def _fingerprint(
    manifest: Mapping[str, Any], notes: Sequence[ChunkNotes], records: pd.DataFrame, labels: Mapping[str, pd.DataFrame]
) -> str:
    """Hash what the dataset holds; where its source lay, and when it was written, is no part of that."""
    facts = {key: manifest[key] for key in ("version", "sampling_rate", "leads", "units", "filters", "standardisation")}
    facts["source"] = [manifest["source"]["name"], manifest["source"]["version"]]
    facts["quarantined"] = [entry["record_id"] for entry in manifest["quarantined"]["records"]]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for chunk_notes in notes:
        digest.update(chunk_notes.sha256.encode())
    for table in (records, *labels.values()):
        digest.update(",".join(table.columns).encode())
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _move(partial: Path, directory: Path) -> None:
    """Move a finished folder into its place; a dataset that it replaces is gone only after that."""
    old = directory.with_name(f".{directory.name}.old")
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read what ``dataset.json`` says, without opening the dataset.

    Raises
    ------
    EcgkitError
        If there is no dataset, or its manifest is damaged or of another version.
    """
    try:
        manifest: dict[str, Any] = json.loads((directory / "dataset.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EcgkitError(_no_dataset(directory)) from error
    except (OSError, ValueError) as error:
        raise EcgkitError(f"{directory / 'dataset.json'} cannot be read ({error}): build the dataset again") from error
    if not isinstance(manifest, dict):
        raise EcgkitError(f"{directory / 'dataset.json'} is no manifest: build the dataset again")
    if manifest.get("version") != FORMAT_VERSION:
        raise EcgkitError(
            f"dataset {directory} has format version {manifest.get('version')}, not {FORMAT_VERSION}: build it again"
        )
    return manifest


def _no_dataset(directory: Path) -> str:
    found: list[str] = []
    with suppress(OSError):
        found = sorted(path.parent.name for path in directory.parent.glob("[!.]*/dataset.json"))
    there = f"; there are {', '.join(found)}" if found else ""
    if directory.with_name(f".{directory.name}.partial").is_dir():
        return f"dataset {directory.name} in {directory.parent} is not finished: run its preprocessing again to go on"
    return f"no dataset {directory.name} in {directory.parent}{there}: make it with `ecgkit preprocess`"


def _open_signals(directory: Path) -> np.memmap[Any, np.dtype[np.int16]]:
    signals: np.memmap[Any, np.dtype[np.int16]] = np.load(directory / "signals.npy", mmap_mode="r", allow_pickle=False)
    return signals


def _statistic(values: Sequence[float] | None) -> NDArray[np.float32]:
    return np.full(len(LEADS), np.nan, np.float32) if values is None else np.array(values, np.float32)


def _export_arrays(dataset: Dataset, *, standardised: bool) -> dict[str, NDArray[Any]]:
    records, units = dataset.records, "none (standardised)" if standardised else "mV"
    about = (
        f"{dataset.name}, ecgkit fingerprint {dataset.fingerprint}. X: (records, samples, leads), units {units}; "
        f"y: (records, classes), label set {dataset.label_set}; age in years (PTB-XL: 90 means over 89), height in cm, "
        "weight in kg, NaN where unknown; sex is male, female or empty; fold: 1-8 train, 9 validates, 10 tests; "
        "mean and std: mV, folds 1-8."
    )
    arrays: dict[str, NDArray[Any]] = {name: records[name].to_numpy() for name in ("fold", "age", "height", "weight")}
    texts = ("record_id", "patient_id", "sex", "device")
    arrays |= {name: np.array(records[name].fillna("").tolist(), dtype=np.str_) for name in texts}
    return arrays | {
        "y": dataset.labels.to_numpy(np.uint8).reshape(len(records), len(dataset.classes)),
        "classes": np.array(dataset.classes, dtype=np.str_),
        "leads": np.array(LEADS),
        "sampling_rate": np.array(dataset.sampling_rate),
        "mean": dataset.mean,
        "std": dataset.std,
        "units": np.array(units),
        "about": np.array(about),
    }


def _export_signals(dataset: Dataset, file: Any, *, standardised: bool, block: int = 256) -> None:
    """Write the array X into an open file, a block of records at a time."""
    shape = (len(dataset.rows), dataset.n_samples, len(LEADS))
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    scale = dataset.std if standardised else np.ones(len(LEADS), np.float32)
    centre = dataset.mean if standardised else np.zeros(len(LEADS), np.float32)
    for first in range(0, len(dataset.rows), block):
        values = dataset.signals[dataset.rows[first : first + block]].transpose(0, 2, 1) / np.float32(1000)
        file.write(np.ascontiguousarray((values - centre) / np.where(scale > 0, scale, 1), "<f4").data.cast("B"))
