"""Measure preprocessing: PTB-XL at 100 Hz from its files to a processed dataset, and a loop over `wfdb.rdsamp`.

    python benchmarks/preprocessing.py [PTBXL_FOLDER] [--jobs N] [--sample N]

Each dataset is built in a fresh process; the plain one is then opened, with and without comparing its files with their
checksums (``--opening DATASET`` measures only that). All files are read once before the measurements, so that they are
in the operating system's cache; the time of that first read is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEED_TARGET = 20
FILTER_TARGET = 3
MEMORY_TARGET = 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "raw_datasets" / "ptbxl")
    parser.add_argument("--jobs", type=int, default=2, help="processes that read (default: 2)")
    parser.add_argument("--sample", type=int, default=1000, help="records of the loop over wfdb.rdsamp (default: 1000)")
    parser.add_argument(
        "--work", type=Path, help="folder for the datasets, which are deleted (default: a temporary one)"
    )
    parser.add_argument("--opening", type=Path, metavar="DATASET", help="measure only the opening of this dataset")
    parser.add_argument("--build", choices=("plain", "bandpass"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        print(json.dumps(build_once(arguments.folder, arguments.work, arguments.build, arguments.jobs)))
        return
    if arguments.opening:
        print_opening(measure_opening(arguments.opening))
        return
    records = record_paths(arguments.folder)
    first_read, n_bytes = read_bytes(records)
    again, _ = read_bytes(records)
    loop = wfdb_loop(records[:: max(1, len(records) // arguments.sample)][: arguments.sample]) * len(records)
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        plain = measure_build(arguments.folder, Path(work), "plain", arguments.jobs)
        opening = measure_opening(Path(work) / "plain")
        bandpass = measure_build(arguments.folder, Path(work), "bandpass", arguments.jobs)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    size = f"{2 * len(records):,} files, {n_bytes / 1e6:,.0f} MB"
    print(f"{len(records):,} records, {size}; {arguments.jobs} processes; load {load}")
    print(
        f"wfdb.rdsamp measured on {arguments.sample:,} records and extrapolated; "
        f"first read of the files {first_read:.1f} s\n"
    )
    print_table(again, loop, plain, bandpass)
    print()
    print_opening(opening)


def measure_opening(folder: Path, repeats: int = 5) -> dict[str, float]:
    """Return the shortest seconds of opening a dataset: without checks, with them, and with all of its signals."""
    from ecgkit.datasets import contents, default_label_set, opening, read_manifest

    label_set = default_label_set(read_manifest(folder))
    check = opening.check_contents
    seconds = dict.fromkeys(("without", "checked", "verified"), float("inf"))
    for _ in range(repeats):
        for kind in seconds:
            contents.VERIFIED.clear()  # one process opens it again and again
            opening.check_contents = check if kind != "without" else lambda directory, **_: read_manifest(directory)
            start = time.perf_counter()
            opening.open_dataset(folder, label_set=label_set, verify=kind == "verified")
            seconds[kind] = min(seconds[kind], time.perf_counter() - start)
    opening.check_contents = check
    return seconds | {"bytes": (folder / "signals.npy").stat().st_size}


def print_opening(found: dict[str, float]) -> None:
    """Print how long opening takes."""
    for what, kind in (
        ("opening without comparing checksums", "without"),
        ("opening", "checked"),
        (f"opening with --verify, {found['bytes'] / 1e6:,.0f} MB", "verified"),
    ):
        print(f"{what:<46}{found[kind]:>12.3f} s{found[kind] / found['without']:>10.2f} x")


def print_table(reading: float, loop: float, plain: dict[str, float], bandpass: dict[str, float]) -> None:
    """Print the measurements, and whether they meet the targets."""
    print(f"{'what':<46}{'seconds':>12}")
    for what, seconds in (
        ("plain loop over wfdb.rdsamp", loop),
        ("reading the same bytes, 1 process", reading),
        ("files to processed dataset", plain["seconds"]),
        ("the same with the band-pass 0.5-40 Hz", bandpass["seconds"]),
    ):
        print(f"{what:<46}{seconds:>12.2f}")
    print()
    print(f"{'target':<46}{'measured':>12}{'':>4}met")
    speed, ratio = loop / plain["seconds"], bandpass["seconds"] / plain["seconds"]
    memory = max(plain["peak_bytes"], bandpass["peak_bytes"])
    for target, measured, is_met in (
        (f"at least {SPEED_TARGET} times as fast as the loop", f"{speed:.1f} x", speed >= SPEED_TARGET),
        (f"band-pass at most {FILTER_TARGET} times as long", f"{ratio:.2f} x", ratio <= FILTER_TARGET),
        ("under 1,000 MB resident, all processes together", f"{memory / 1e6:.0f} MB", memory < MEMORY_TARGET),
    ):
        print(f"{target:<46}{measured:>12}{'':>4}{'yes' if is_met else 'NO'}")


def record_paths(folder: Path) -> list[str]:
    """Return the paths of all records at 100 Hz, without suffix."""
    paths = sorted(str(path)[:-4] for path in (folder / "records100").glob("*/*.hea"))
    if not paths:
        sys.exit(f"no PTB-XL at 100 Hz in {folder}: give its folder")
    return paths


def read_bytes(records: Sequence[str]) -> tuple[float, int]:
    """Read all files of the records; return seconds and bytes."""
    start, n_bytes = time.perf_counter(), 0
    for record in records:
        for suffix in (".hea", ".dat"):
            with open(record + suffix, "rb", buffering=0) as file:  # noqa: PTH123  # the fastest way, as the limit
                n_bytes += len(file.read())
    return time.perf_counter() - start, n_bytes


def wfdb_loop(records: Sequence[str]) -> float:
    """Return the seconds per record that `wfdb.rdsamp` takes."""
    import wfdb

    wfdb.rdsamp(records[0])
    start = time.perf_counter()
    for record in records:
        wfdb.rdsamp(record)
    return (time.perf_counter() - start) / len(records)


def build_once(folder: Path, work: Path, kind: str, jobs: int) -> dict[str, float]:
    """Build one dataset in this process; return seconds and the peak of resident memory of all its processes."""
    from ecgkit.datasets import build_dataset
    from ecgkit.signals.filters import Filters
    from ecgkit.sources.ptbxl.source import PtbXl

    memory = PeakMemory()
    start = time.perf_counter()
    build_dataset(
        PtbXl(folder), work / kind, filters=Filters(bandpass=(0.5, 40.0) if kind == "bandpass" else None), jobs=jobs
    )
    return {"seconds": time.perf_counter() - start, "peak_bytes": memory.stop()}


def measure_build(folder: Path, work: Path, kind: str, jobs: int) -> dict[str, float]:
    """Build one dataset in a fresh process."""
    command = [sys.executable, __file__, str(folder), "--build", kind, "--work", str(work), "--jobs", str(jobs)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    if kind != "plain":
        shutil.rmtree(work / kind, ignore_errors=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


class PeakMemory:
    """Record the resident memory of this process and its children every 20 ms; shared pages count in each (Linux)."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Stop; return the peak in bytes."""
        self._done.set()
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, sum(_resident(pid) for pid in _family(os.getpid())))


def _family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:  # a thread that has just ended
            continue
        for child in children:
            found += _family(child)
    return found


def _resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # a process that has just ended
        return 0


if __name__ == "__main__":
    main()
