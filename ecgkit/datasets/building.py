"""Building a processed dataset from a source: in parallel, chunk by chunk, resumed after an interruption."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgkit.cluster import workers
from ecgkit.datasets.chunks import (
    Chunk,
    ChunkReport,
    is_finished,
    read_report,
    report_path,
    write_chunk,
)
from ecgkit.datasets.contents import check_contents, check_records, expected_files, write_stamp
from ecgkit.datasets.manifest import FORMAT_VERSION, MANIFEST, NO_FILTERS, make_manifest, manifest_sha256, merge_reports
from ecgkit.datasets.opening import Dataset, open_dataset
from ecgkit.errors import EcgkitError
from ecgkit.io import (
    check_space,
    disk_errors,
    file_name,
    file_sha256,
    json_bytes,
    json_or_none,
    locked,
    write_atomically,
)
from ecgkit.processes import WorkerPool, n_cores
from ecgkit.progress import progress_bar, say
from ecgkit.signals.ecg import LEADS
from ecgkit.signals.filters import Filters
from ecgkit.sources.base import Source
from ecgkit.stats.folds import TRAIN_FOLDS

CHUNK_RECORDS = 128
CHUNK_BYTES = 16 * 2**20
REQUEST = "request.json"


def build_dataset(
    source: Source,
    directory: Path | str,
    *,
    filters: Filters = NO_FILTERS,
    executor: Executor | None = None,
    scheduler: str | None = None,
    jobs: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
    anyway: bool = False,
) -> Dataset:
    """Build a processed dataset, resume an interrupted build, or keep the dataset that is there.

    Parameters
    ----------
    source : Source
        The records.
    directory : Path or str
        The folder to make, ``processed_datasets/NAME``. It appears when it is complete; until then the work is in the
        hidden folder ``.NAME.partial`` next to it, which the next call for the same source and filters resumes.
    filters : Filters
        The filters to apply.
    executor : Executor, optional
        Where the records are read: any `concurrent.futures.Executor` whose workers see the same files. By default a
        pool of processes on this machine.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers read the records instead; see `ecgkit.cluster.workers`.
    jobs : int, optional
        Number of processes of the default pool; by default one per core.
    progress : bool
        Whether to show the progress.
    overwrite : bool
        Build anew and replace an existing dataset of any content. It stays until the new one is complete.
    anyway : bool
        Keep records whose levels are not those of an ECG in mV; otherwise they are quarantined. Flat records are always
        kept.

    Returns
    -------
    Dataset
        Opened without a label set.

    Raises
    ------
    EcgkitError
        If the source's tables are invalid, no record can be read, the disk is full, the folder holds another dataset or
        one that was changed, or another process is building it.
    """
    filters.check(source.sampling_rate)
    _check_tables(source)
    directory = Path(directory).absolute()
    request = _request(source, filters, anyway=anyway)
    partial = directory.with_name(f".{directory.name}.partial")
    with _clear_errors(partial):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with locked(
            partial.with_name(f"{partial.name}.lock"),
            f"another process is building {directory.name}: wait until it is finished, or end it",
        ):
            if _is_kept(directory, request, overwrite=overwrite):
                say(f"{directory.name}: nothing has changed, the dataset is kept", shown=progress)
                return open_dataset(directory, label_set=None)
            partial.mkdir(exist_ok=True)
            chunks = _unfinished_chunks(partial, source, request)
            folders = [folder for folder in (partial, source.folder) if folder]
            with workers(scheduler if chunks else None, sees=folders) as on_cluster:
                _run_chunks(chunks, executor or on_cluster, jobs=jobs, progress=progress, name=directory.name)
            del chunks  # the names of all records
            _finish(partial, directory, source, request)
    dataset = open_dataset(directory, label_set=None)
    quarantined = dataset.manifest["quarantined"]["count"]
    lost = f", {quarantined:,} quarantined" if quarantined else ""
    say(f"{directory.name}: {len(dataset):,} records{lost}", shown=progress)
    return dataset


def is_current(
    directory: Path | str,
    source: Source,
    filters: Filters = NO_FILTERS,
    *,
    anyway: bool = False,
    overwrite: bool = False,
) -> bool:
    """Return True if a dataset is complete, from the same source through the same filters, and as it was written.

    Parameters
    ----------
    directory : Path or str
        The folder that `build_dataset` would make.
    source : Source
        The records.
    filters : Filters
        The filters to apply.
    anyway : bool
        Whether records of other levels are kept.
    overwrite : bool
        Return False for a dataset whose files were changed, instead of an error.

    Raises
    ------
    EcgkitError
        Naming the file that is missing or was changed.
    """
    if _request_of(Path(directory)) != _request(source, filters, anyway=anyway):
        return False
    try:
        check_contents(directory)
    except EcgkitError:
        if overwrite:
            return False
        raise
    return True


def _check_tables(source: Source) -> None:
    """Check the tables of a source: identifiers, folds, quantities, and labels that are true, false or unknown."""
    check_records(source.records, f"source {source.name}", "correct its table of records")
    for name, table in source.labels.items():
        if len(table) != len(source.records):
            raise EcgkitError(f"label set {name} has {len(table):,} rows, not {len(source.records):,}: one per record")
        if name != file_name(name):
            raise EcgkitError(f"label set {name!r} is not a file name: choose letters, digits, - and _")
        for column in table:
            try:
                table[column].astype("boolean")
            except (TypeError, ValueError) as error:
                raise EcgkitError(
                    f"class {column} of label set {name} has a value that is not true, false or missing ({error})"
                ) from error


@contextmanager
def _clear_errors(partial: Path) -> Iterator[None]:
    """Convert a full disk and a lost worker into one line that names what is kept."""
    kept = f"finished chunks are kept in {partial}, run again to resume"
    try:
        with disk_errors(partial.parent, kept):
            yield
    except BrokenProcessPool as error:
        raise EcgkitError(
            f'a worker process was lost (out of memory, killed, or a script without `if __name__ == "__main__":`); '
            f"{kept}"
        ) from error


def _request(source: Source, filters: Filters, *, anyway: bool) -> dict[str, Any]:
    """Return what determines the contents of a dataset, as it is read back from a JSON file."""
    request = {
        "version": FORMAT_VERSION,
        "source": source.identity(),
        "filters": filters.to_dict() if filters else Filters().to_dict(),
        "chunk_records": _chunk_records(source),
        "anyway": anyway,
    }
    if source.split:
        request["split"] = list(source.split)
    result: dict[str, Any] = json.loads(json.dumps(request))
    return result


def _request_of(directory: Path) -> object:
    """Read what an existing dataset was built from; None if there is none, or it is damaged."""
    manifest = json_or_none(directory / MANIFEST)
    return manifest.get("request") if isinstance(manifest, dict) else None


def _is_kept(directory: Path, request: dict[str, Any], *, overwrite: bool) -> bool:
    """Return True if the requested dataset is there; raise if something is there that must not be replaced."""
    if not directory.exists():
        return False
    if not (directory / MANIFEST).is_file():
        if directory.is_dir() and not any(directory.iterdir()):
            return False
        raise EcgkitError(f"{directory} is not a processed dataset: choose another name, or remove it")
    if overwrite:
        return False
    if _request_of(directory) == request:
        check_contents(directory)
        return True
    raise EcgkitError(
        f"{directory} holds another dataset: choose another name, remove it, or preprocess with --overwrite"
    )


def _chunk_records(source: Source) -> int:
    """Return the number of records per chunk."""
    return max(1, min(CHUNK_RECORDS, CHUNK_BYTES // _record_bytes(source)))


def _n_chunks(source: Source) -> int:
    """Return the number of chunks."""
    return -(-len(source.records) // _chunk_records(source))


def _record_bytes(source: Source) -> int:
    """Return the size of a record in ``signals.npy``."""
    return 2 * len(LEADS) * source.n_samples


def _unfinished_chunks(partial: Path, source: Source, request: dict[str, Any]) -> list[Chunk]:
    """Prepare the folder, keep the finished chunks of the same request, and return the others."""
    is_same = json_or_none(partial / REQUEST) == request
    if not is_same:
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        check_space(partial, len(source.records) * _record_bytes(source))
        (partial / "chunks").mkdir()
    offset = _write_header(partial / "signals.npy", len(source.records), source.n_samples)
    write_atomically(partial / REQUEST, json_bytes(request))
    chunks = [_make_chunk(partial, source, request, index, offset) for index in range(_n_chunks(source))]
    unfinished = [chunk for chunk in chunks if not is_finished(chunk)]
    if is_same:
        check_space(partial, len(unfinished) * _chunk_records(source) * _record_bytes(source))
    return unfinished


def _make_chunk(partial: Path, source: Source, request: dict[str, Any], index: int, offset: int) -> Chunk:
    """Describe one chunk."""
    first = index * _chunk_records(source)
    records = source.records.iloc[first : first + _chunk_records(source)]
    record_ids = tuple(records["record_id"])
    return Chunk(
        folder=str(partial),
        index=index,
        first_row=first,
        record_ids=record_ids,
        training=tuple(records["fold"].isin(TRAIN_FOLDS).tolist()),
        reader=source.reader(record_ids),
        filters=Filters.from_dict(request["filters"]),
        sampling_rate=source.sampling_rate,
        n_samples=source.n_samples,
        data_offset=offset,
        anyway=request["anyway"],
    )


def _write_header(path: Path, n_records: int, n_samples: int) -> int:
    """Write the header of ``signals.npy``, give the file its full length, and return the length of the header."""
    shape = (n_records, len(LEADS), n_samples)
    with path.open("r+b" if path.exists() else "w+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
        offset = file.tell()
        file.truncate(offset + 2 * int(np.prod(shape)))
    return offset


def _run_chunks(
    chunks: Sequence[Chunk], executor: Executor | None, *, jobs: int | None, progress: bool, name: str
) -> None:
    """Write all chunks; whatever interrupts this leaves the finished ones in place."""
    if not chunks:
        return
    pool = executor or _make_executor(chunks[0], len(chunks), jobs)
    futures: dict[Future[None], int] = {}
    n_records = sum(len(chunk.record_ids) for chunk in chunks)
    with progress_bar(total=n_records, description=f"reading {name}", unit="records", shown=progress) as bar:
        if pool is None:
            for chunk in chunks:
                write_chunk(chunk)
                bar.update(len(chunk.record_ids))
            return
        try:
            for chunk in chunks:
                futures[pool.submit(write_chunk, chunk)] = len(chunk.record_ids)
            for future in as_completed(futures):
                future.result()
                bar.update(futures[future])
        finally:
            for future in futures:
                future.cancel()
            if pool is not executor:
                pool.shutdown(wait=True, cancel_futures=True)


def _make_executor(chunk: Chunk, n_chunks: int, jobs: int | None) -> Executor | None:
    """Make the default executor, a pool of processes; None for little work, which is done in this process."""
    if jobs is not None and jobs < 1:
        raise EcgkitError(f"jobs is {jobs}: give 1 or more")
    workers = min(n_chunks, jobs or n_cores())
    if workers == 1 or n_chunks <= 2:
        return None
    try:
        pickle.dumps(chunk)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        # A pool does not always fail on this: before Python 3.12 it may wait for ever.
        raise EcgkitError(f"the source cannot be sent to other processes ({error}): pass jobs=1") from error
    return WorkerPool(workers)


def _finish(partial: Path, directory: Path, source: Source, request: dict[str, Any]) -> None:
    """Add tables and manifest to the finished signals and move the folder into its place."""
    reports = [read_report(partial, index) for index in range(_n_chunks(source))]
    quarantined = merge_reports(reports, "quarantined")
    keep = np.ones(len(source.records), bool)
    keep[[int(row) for row in quarantined]] = False
    if not keep.any():
        shutil.rmtree(partial)
        reason = next(iter(quarantined.values()), "the source has no records")
        raise EcgkitError(f"no record of {source.name} can be read, the first because: {reason}")
    _remove_rows(partial, keep, source.n_samples, chunk_records=request["chunk_records"])
    records = _add_findings(source.records, reports)[keep].reset_index(drop=True)
    labels = {name: table[keep].astype("boolean").reset_index(drop=True) for name, table in source.labels.items()}
    (partial / "labels").mkdir(exist_ok=True)
    for file, table in {"records": records, **{f"labels/{name}": labels[name] for name in labels}}.items():
        table.to_parquet(partial / f"{file}.parquet", index=False)
    manifest = {"name": directory.name} | make_manifest(source, request, reports, records, labels)
    manifest["files"] = {name: file_sha256(partial / name) for name in expected_files(manifest)}
    write_atomically(partial / MANIFEST, json_bytes(manifest | {"sha256": manifest_sha256(manifest)}))
    write_stamp(partial, manifest["files"]["signals.npy"])
    shutil.rmtree(partial / "chunks")
    (partial / REQUEST).unlink()
    _move(partial, directory)


def _remove_rows(partial: Path, keep: NDArray[np.bool_], n_samples: int, *, chunk_records: int) -> None:
    """Remove the rows of quarantined records from ``signals.npy``, in place."""
    kept = np.flatnonzero(keep)
    if len(kept) == len(keep):
        return
    first = int(np.argmin(keep))
    for index in range(first // chunk_records, -(-len(keep) // chunk_records)):
        # Rows move from here on, and these chunks no longer match their reports: a resumed build must write them anew.
        report_path(partial, index).unlink(missing_ok=True)
    path = partial / "signals.npy"
    signals = np.lib.format.open_memmap(path, mode="r+")
    for row in range(first, len(kept)):
        signals[row] = signals[kept[row]]
    signals.flush()
    del signals
    _write_header(path, len(kept), n_samples)


def _add_findings(records: pd.DataFrame, reports: Sequence[ChunkReport]) -> pd.DataFrame:
    """Add the columns ``flat_leads`` and ``nan_samples``."""
    flat, missing = merge_reports(reports, "flat_leads"), merge_reports(reports, "nan_samples")
    flat_leads = pd.Series({int(row): leads for row, leads in flat.items()}, dtype="string").reindex(records.index)
    nan_samples = np.array([missing.get(str(row), 0) for row in range(len(records))], np.int64)
    return records.assign(flat_leads=flat_leads, nan_samples=nan_samples)


def _move(partial: Path, directory: Path) -> None:
    """Move a finished folder into its place; a dataset that it replaces is removed only after that."""
    old = directory.with_name(f".{directory.name}.old")
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    partial.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
