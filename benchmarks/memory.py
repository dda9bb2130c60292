"""Memory that a data set of any size needs: preprocessing, and the first batches of a training.

Each measurement is a process of its own on synthetic records. ``anonymous`` is the largest amount of memory that
belongs to the process; ``resident`` also counts pages of files, which the operating system drops when it needs them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ecgkit.datasets import build_dataset, open_dataset
from ecgkit.signals.ecg import ECG
from ecgkit.sources.base import Source, record_table

SMALL, LARGE = 20_000, 200_000
CLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
SAMPLES = 250
"""Samples per lead, few: what is read at once does not depend on the number of records."""


class Waves:
    """Reads records, each the same noise from another place."""

    noise = np.random.default_rng(0).normal(0, 0.3, (12, 4 * SAMPLES)).astype(np.float32)

    def __init__(self, n_samples: int = SAMPLES) -> None:
        self.n_samples = n_samples

    def read(self, record_id: str) -> ECG:
        """Return a record."""
        first = int(record_id) % (3 * SAMPLES)
        return ECG(np.resize(self.noise[:, first : first + self.n_samples], (12, self.n_samples)), 100, record_id)


class Synthetic(Source):
    """A source of any number of records, with the columns of a real one and five classes."""

    name = "synthetic"
    sampling_rates = (100,)
    has_folder = False

    def __init__(self, n_records: int) -> None:
        self.sampling_rate, self.n_samples = 100, SAMPLES
        numbers, random = np.arange(n_records), np.random.default_rng(1)
        self.records = record_table(
            {
                "record_id": numbers,
                "patient_id": numbers // 2,
                "fold": numbers // 2 % 10 + 1,
                "age": random.integers(18, 90, n_records).astype(float),
                "sex": random.choice(["male", "female"], n_records),
                "device": random.choice(["device A", "device B"], n_records),
                "site": random.choice([f"site {i}" for i in range(20)], n_records),
            }
        )
        self.labels = {"superclass": pd.DataFrame(random.random((n_records, 5)) < 0.25, columns=list(CLASSES))}

    def read(self, record_id: str) -> ECG:
        """Read one record."""
        return Waves().read(record_id)

    def reader(self, record_ids: Sequence[str]) -> Waves:
        """Return what a worker process needs."""
        del record_ids
        return Waves()


class Memory:
    """The largest memory of this process, in MB, and the bytes that it reads from files."""

    def __init__(self) -> None:
        self.anonymous = self.resident = 0.0
        self.before = self.bytes_read()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        """Look every 20 ms."""
        while True:
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.anonymous = max(self.anonymous, int(lines["RssAnon"].split()[0]) / 1024)
            self.resident = max(self.resident, int(lines["VmRSS"].split()[0]) / 1024)
            time.sleep(0.02)

    @staticmethod
    def bytes_read() -> int:
        """Count the bytes that this process has got from files by reading."""
        lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(lines["rchar"])

    def result(self, seconds: float) -> dict[str, float]:
        """Return the numbers."""
        time.sleep(0.1)
        read = (self.bytes_read() - self.before) / 2**20
        return {"anonymous": self.anonymous, "resident": self.resident, "read": read, "seconds": seconds}


def preprocess(folder: Path, n_records: int) -> None:
    """Build a dataset in two processes."""
    build_dataset(Synthetic(n_records), folder, progress=False, jobs=2)


def start_training(folder: Path, n_records: int) -> None:
    """Open a dataset as a training does, and read its first two batches and the first of fold 9."""
    from ecgkit.training.data import Batches, ShuffledBatches

    del n_records
    dataset = open_dataset(folder, label_set="superclass")
    dataset.check_splits()
    batches = Batches(dataset)
    order = iter(ShuffledBatches(dataset.folds(*range(1, 9)), batch_size=64, seed=0))
    for positions in (next(order), next(order), dataset.folds(9)[:64]):
        batches[positions]


TASKS = {"preprocess": preprocess, "start a training": start_training}


def measure(task: str, folder: Path, n_records: int) -> dict[str, float]:
    """Run a task in a process of its own."""
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder), "--records", str(n_records)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return numbers


def main() -> None:
    """Print a table, or run one task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=SMALL, help="records of the smaller data set")
    parser.add_argument("--large", type=int, default=LARGE, help="records of the larger data set")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        memory, begun = Memory(), time.monotonic()
        TASKS[arguments.task](arguments.folder, arguments.records)
        print(json.dumps(memory.result(time.monotonic() - begun)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        print(f"{'':<18}{'records':>10}{'anonymous MB':>14}{'resident MB':>13}{'read MB':>9}{'s':>7}")
        for n_records in (arguments.small, arguments.large):
            for task in TASKS:
                found = measure(task, Path(temporary) / str(n_records), n_records)
                values = f"{found['anonymous']:>14.0f}{found['resident']:>13.0f}{found['read']:>9.0f}"
                print(f"{task:<18}{n_records:>10,}{values}{found['seconds']:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
