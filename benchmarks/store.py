"""Records per second written to and read from the store, next to zarr and HDF5, in one run.

    pip install zarr h5py
    python benchmarks/store.py [--records 20000] [--rounds 5] [--folder DIR]

All hold the same int16 microvolts, ``(records, 12, 1000)``, written in runs of 128 records and read in order, or in
batches of 64 records in random order, as a training reads them. Files are in the page cache. zarr and HDF5 are measured
in chunks of 1 and of 64 records, uncompressed, and of 64 records compressed (zstd, the default of zarr; gzip).

Other work on the machine changes all rates, so every measurement of another store comes right after one of
``signals.npy``: each rate is a median over the rounds, with the rate as a part of that of ``signals.npy`` in the same
round, its median and its range.
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
DISTINCT = 2_048
"""Different records that are written, again and again."""
SECONDS = 0.2
"""How long each measurement of reading lasts at least."""

Write = Callable[[int, NDArray[np.int16]], object]


class Store:
    """``signals.npy`` as ecgkit writes and maps it."""

    label = "ecgkit (signals.npy)"

    def __init__(self, folder: Path, n_records: int, name: str = "signals.npy") -> None:
        self.path, self.shape = folder / name, (n_records, *SHAPE)

    def make(self) -> Write:
        """Make the store, and return a function that writes rows, starting at a given record."""
        file = self.path.open("wb", buffering=0)
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": self.shape})
        start = file.tell()
        return lambda first, rows: (file.seek(start + first * rows[0].nbytes), file.write(rows.data))

    def open(self) -> Any:
        """Return an array that sorted row numbers index."""
        return np.load(self.path, mmap_mode="r")


class Zarr(Store):
    """A zarr array."""

    def __init__(self, folder: Path, n_records: int, *, chunk: int, compressed: bool) -> None:
        super().__init__(folder, n_records, "z.zarr")
        self.keywords = {"chunks": (chunk, *SHAPE)} | ({} if compressed else {"compressors": None})
        self.label = f"zarr, {chunk} per chunk{', zstd' if compressed else ''}"

    def make(self) -> Write:
        """Make the store, and return a function that writes rows, starting at a given record."""
        zarr = importlib.import_module("zarr")
        array = zarr.create_array(store=str(self.path), shape=self.shape, dtype="int16", **self.keywords)
        return lambda first, rows: array.__setitem__(slice(first, first + len(rows)), rows)

    def open(self) -> Any:
        """Return an array that sorted row numbers index."""
        return importlib.import_module("zarr").open_array(str(self.path), mode="r").oindex


class Hdf5(Store):
    """A dataset in an HDF5 file."""

    def __init__(self, folder: Path, n_records: int, *, chunk: int, compressed: bool) -> None:
        super().__init__(folder, n_records, "h.h5")
        self.keywords = {"chunks": (chunk, *SHAPE)} | ({"compression": "gzip"} if compressed else {})
        self.label = f"HDF5, {chunk} per chunk{', gzip' if compressed else ''}"

    def make(self) -> Write:
        """Make the store, and return a function that writes rows, starting at a given record."""
        file = importlib.import_module("h5py").File(self.path, "w")
        data = file.create_dataset("signals", self.shape, "int16", **self.keywords)

        def write(first: int, rows: NDArray[np.int16]) -> None:
            data[first : first + len(rows)] = rows
            if first + len(rows) == len(data):
                file.close()

        return write

    def open(self) -> Any:
        """Return an array that sorted row numbers index."""
        return importlib.import_module("h5py").File(self.path, "r")["signals"]


def signals() -> list[NDArray[np.int16]]:
    """Return runs of records that compress about as ECGs do: smooth waves with noise of 10 microvolts."""
    random, times = np.random.default_rng(0), np.linspace(0, 10, SHAPE[1])
    waves = 300 * np.sin(2 * np.pi * times * random.uniform(0.8, 2.0, (DISTINCT, SHAPE[0], 1))) ** 9
    records = (waves + random.normal(0, 10, (DISTINCT, *SHAPE))).astype(np.int16)
    return np.split(records, DISTINCT // RUN)


def written(stores: tuple[Store, ...], runs: list[NDArray[np.int16]], n_records: int, rounds: int) -> NDArray[Any]:
    """Write the stores in turn, a part of the records per round, and return records per second, (stores, rounds)."""
    writers = [store.make() for store in stores]
    rates = []
    for part in np.array_split(np.arange(0, n_records, RUN), rounds):
        took = []
        for write in writers:
            begun = time.perf_counter()
            for first in part:
                write(int(first), runs[first // RUN % len(runs)][: n_records - first])
            took.append(time.perf_counter() - begun)
        rates.append(len(part) * RUN / np.array(took))
    return np.transpose(rates)


def in_order(n_records: int) -> Iterator[slice]:
    """Yield 64 records after the other."""
    while True:
        yield from (slice(first, first + BATCH) for first in range(0, n_records - BATCH + 1, BATCH))


def at_random(n_records: int) -> Iterator[NDArray[np.int64]]:
    """Yield batches of 64 different records; HDF5 wants them sorted, and sorted they are for all."""
    random = np.random.default_rng(1)
    while True:
        yield np.sort(random.choice(n_records, BATCH, replace=False))


def read(stores: tuple[Store, ...], which: Callable[[int], Iterator[Any]], n_records: int, rounds: int) -> NDArray[Any]:
    """Read the stores in turn, and return records per second, (stores, rounds); a first round is not counted."""
    opened = [(store.open(), which(n_records)) for store in stores]
    rates = np.zeros((len(stores), rounds + 1))
    for number in range(rounds + 1):
        for row, (data, batches) in enumerate(opened):
            begun, n_read = time.perf_counter(), 0
            while time.perf_counter() < begun + SECONDS:
                np.asarray(data[next(batches)]).sum()
                n_read += BATCH
            rates[row, number] = n_read / (time.perf_counter() - begun)
    return rates[:, 1:]


def measure(store: Store, reference: Store, runs: list[NDArray[np.int16]], n_records: int, rounds: int) -> str:
    """Write and read a store next to the reference, and return its line of the table."""
    both = (reference, store)
    found = [written(both, runs, n_records, rounds)]
    found += [read(both, which, n_records, rounds) for which in (in_order, at_random)]
    files = [store.path] if store.path.is_file() else [each for each in store.path.rglob("*") if each.is_file()]
    size = sum(each.stat().st_size for each in files) / n_records / 1000
    shutil.rmtree(store.path) if store.path.is_dir() else store.path.unlink()
    cells = []
    for of_reference, own in found:
        ratios = own / of_reference
        cells.append(f"{np.median(own):,.0f} | {np.median(ratios):.2g} ({ratios.min():.2g} to {ratios.max():.2g})")
    return f"| {store.label} | {' | '.join(cells)} | {size:.1f} | {len(files):,} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    n_records, runs = arguments.records, signals()
    ratio = "of signals.npy"
    print(f"| | written/s | {ratio} | read/s in order | {ratio} | read/s at random | {ratio} | kB per record | files |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        stores = [Store(folder, n_records, "again.npy")]
        for kind in (Zarr, Hdf5):
            for chunk, compressed in ((1, False), (64, False), (64, True)):
                stores.append(kind(folder, n_records, chunk=chunk, compressed=compressed))
        for store in stores:
            line = measure(store, Store(folder, n_records), runs, n_records, arguments.rounds)
            print(line, flush=True)


if __name__ == "__main__":
    main()
