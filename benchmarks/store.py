"""Records per second written to and read from the store, next to zarr and HDF5, in one run.

    pip install zarr h5py
    python benchmarks/store.py [--records 20000] [--folder DIR]

All three hold the same int16 microvolts, ``(records, 12, 1000)``, written in runs of 128 records and read in
order, or in batches of 64 records in random order, as a training reads them. Files are in the page cache. zarr and HDF5
are measured in chunks of 1 and of 64 records, uncompressed and compressed (zstd, the default of zarr; gzip).
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPE = (12, 1000)
RUN = 128
BATCH = 64
BATCHES = 100


class Store:
    """``signals.npy`` as ecgkit writes and maps it."""

    label = "ecgkit (signals.npy)"

    def __init__(self, folder: Path, n_records: int) -> None:
        self.path, self.shape = folder / "signals.npy", (n_records, *SHAPE)

    def write(self, runs: Iterator[NDArray[np.int16]]) -> None:
        """Write runs of records one after the other."""
        with self.path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": self.shape})
            for rows in runs:
                file.write(rows.data)

    def open(self) -> Any:
        """Return what is indexed by sorted rows."""
        return np.load(self.path, mmap_mode="r")


class Zarr(Store):
    """A zarr array."""

    def __init__(self, folder: Path, n_records: int, *, chunk: int, compressed: bool) -> None:
        self.path, self.shape, self.chunk, self.compressed = folder / "z.zarr", (n_records, *SHAPE), chunk, compressed
        self.label = f"zarr, {chunk} per chunk{', zstd' if compressed else ''}"

    def write(self, runs: Iterator[NDArray[np.int16]]) -> None:
        """Write runs of records one after the other."""
        zarr = importlib.import_module("zarr")
        keywords = {} if self.compressed else {"compressors": None}
        chunks = (self.chunk, *SHAPE)
        array = zarr.create_array(store=str(self.path), shape=self.shape, chunks=chunks, dtype="int16", **keywords)
        for i, rows in enumerate(runs):
            array[i * RUN : i * RUN + len(rows)] = rows

    def open(self) -> Any:
        """Return what is indexed by sorted rows."""
        return importlib.import_module("zarr").open_array(str(self.path), mode="r").oindex


class Hdf5(Store):
    """A dataset in an HDF5 file."""

    def __init__(self, folder: Path, n_records: int, *, chunk: int, compressed: bool) -> None:
        self.path, self.shape, self.chunk, self.compressed = folder / "h.h5", (n_records, *SHAPE), chunk, compressed
        self.label = f"HDF5, {chunk} per chunk{', gzip' if compressed else ''}"

    def write(self, runs: Iterator[NDArray[np.int16]]) -> None:
        """Write runs of records one after the other."""
        h5py = importlib.import_module("h5py")
        with h5py.File(self.path, "w") as file:
            keywords = {"compression": "gzip"} if self.compressed else {}
            data = file.create_dataset("signals", self.shape, "int16", chunks=(self.chunk, *SHAPE), **keywords)
            for i, rows in enumerate(runs):
                data[i * RUN : i * RUN + len(rows)] = rows

    def open(self) -> Any:
        """Return what is indexed by sorted rows."""
        return importlib.import_module("h5py").File(self.path, "r")["signals"]


def signals(n_records: int) -> Iterator[NDArray[np.int16]]:
    """Yield runs of records that compress about as ECGs do: smooth waves with noise of 10 microvolts."""
    random, times = np.random.default_rng(0), np.linspace(0, 10, SHAPE[1])
    for first in range(0, n_records, RUN):
        n = min(RUN, n_records - first)
        waves = 300 * np.sin(2 * np.pi * times * random.uniform(0.8, 2.0, (n, SHAPE[0], 1))) ** 9
        yield (waves + random.normal(0, 10, (n, *SHAPE))).astype(np.int16)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def read_in_order(data: Any, n_records: int) -> None:
    """Read all records, 64 at once."""
    for first in range(0, n_records, BATCH):
        np.asarray(data[first : min(first + BATCH, n_records)]).sum()


def read_at_random(data: Any, n_records: int) -> None:
    """Read batches of 64 different records; HDF5 wants them sorted, and sorted they are for all."""
    random = np.random.default_rng(1)
    for _ in range(BATCHES):
        np.asarray(data[np.sort(random.choice(n_records, BATCH, replace=False))]).sum()


def measure(store: Store, n_records: int) -> str:
    """Write and read a store, and return its line of the table."""
    runs = list(signals(n_records))
    writing = seconds(lambda: store.write(iter(runs)))
    path = store.path
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files) / n_records / 1000
    data = store.open()
    in_order = min(seconds(lambda: read_in_order(data, n_records)) for _ in range(2))
    at_random = min(seconds(lambda: read_at_random(data, n_records)) for _ in range(2))
    rates = (n_records / writing, n_records / in_order, BATCH * BATCHES / at_random)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"| {store.label} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + f" | {size:.1f} | {len(files):,} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    print("| | written/s | read/s in order | read/s in random batches of 64 | kB per record | files |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        stores = [Store(Path(folder), arguments.records)]
        for kind in (Zarr, Hdf5):
            for chunk, compressed in ((1, False), (64, False), (64, True)):
                stores.append(kind(Path(folder), arguments.records, chunk=chunk, compressed=compressed))
        for store in stores:
            print(measure(store, arguments.records), flush=True)


if __name__ == "__main__":
    main()
