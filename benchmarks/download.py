"""Measure `ecgkit download ptbxl` from a local server, compared with wget, which PhysioNet recommends.

    python benchmarks/download.py [PTBXL_FOLDER] [--delay SECONDS] [--sample N]

First, all records at 100 Hz from a server without delay: the time, the resident memory, and the time of a second call,
which finds every file in place. The same from a folder (``file://``). Then the first N records, from a server that
waits before each response as a distant one does, with ecgkit and with wget.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIME_TARGET = 180
SECOND_TARGET = 20
MEMORY_TARGET = 200e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "raw_datasets" / "ptbxl")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds before each answer (default: 0.1)")
    parser.add_argument("--sample", type=int, default=500, help="records for wget (default: 500)")
    arguments = parser.parse_args()
    if not (arguments.folder / "SHA256SUMS.txt").is_file():
        sys.exit(f"no PTB-XL with a SHA256SUMS.txt in {arguments.folder}: give its folder")
    with tempfile.TemporaryDirectory() as work:
        measure_all(arguments.folder, Path(work))
        compare_with_wget(arguments.folder, Path(work), arguments.delay, arguments.sample)


def measure_all(folder: Path, work: Path) -> None:
    """Download everything at 100 Hz, twice, and compare with the targets."""
    with serving(folder) as url:
        first = fetch(url, work / "all")
        second = fetch(url, work / "all")
    copy = fetch(folder.resolve().as_uri(), work / "copy")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{'target, 43,598 files at 100 Hz':<46}{'measured':>12}    met")
    for target, measured, is_met in (
        (f"in under {TIME_TARGET} s", f"{first:.0f} s", first < TIME_TARGET),
        (f"a second call in under {SECOND_TARGET} s", f"{second:.1f} s", second < SECOND_TARGET),
        (f"from a folder in under {SECOND_TARGET} s", f"{copy:.1f} s", copy < SECOND_TARGET),
        (f"under {MEMORY_TARGET / 1e6:.0f} MB resident", f"{memory / 1e6:.0f} MB", memory < MEMORY_TARGET),
    ):
        print(f"{target:<46}{measured:>12}    {'yes' if is_met else 'NO'}")


def compare_with_wget(folder: Path, work: Path, delay: float, sample: int) -> None:
    """Download some records from a server with a delay, with wget and with ecgkit, and print the ratio."""
    wget = shutil.which("wget")
    if wget is None:
        print("\nwget is not installed: no comparison")
        return
    with serving(folder, delay) as url:
        ours = fetch(url, work / "sample", "--limit", str(sample))
        done = work / "sample" / "raw_datasets" / "ptbxl"
        names = [path.relative_to(done).as_posix() for path in done.rglob("*") if path.suffix in (".dat", ".hea")]
        (work / "urls").write_text("\n".join(url + name for name in names))
        start = time.perf_counter()
        command: list[str | Path] = [
            wget,
            "--quiet",
            "--force-directories",
            "--no-host-directories",
            "--directory-prefix",
            work / "wget",
        ]
        subprocess.run([*command, "--input-file", work / "urls"], check=True)
        other = time.perf_counter() - start
    print(f"\n{len(names):,} files, {delay * 1000:.0f} ms before each response: ", end="")
    print(f"wget {other:.0f} s, ecgkit {ours:.0f} s (with the tables), {other / ours:.1f} times as fast")


@contextmanager
def serving(folder: Path, delay: float = 0) -> Iterator[str]:
    """Serve a folder in another process; yield its URL."""
    command: list[str | Path] = [sys.executable, ROOT / "tests" / "file_server.py", folder, "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().strip() if server.stdout else ""
        finally:
            server.terminate()


def fetch(url: str, root: Path, *more: str) -> float:
    """Run the command in another process; return its duration in seconds."""
    root.mkdir(exist_ok=True)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "ecgkit.cli",
        "download",
        "ptbxl",
        "--mirror",
        url,
        "--root",
        root,
        *more,
    ]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
