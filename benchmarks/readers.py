"""Damage files of every format and open them: nothing but an `EcgkitError` may come out, in bounded time and memory.

``python benchmarks/readers.py [--mutations 5000] [--only FORMAT] [--seed 0]`` prints one line per format: how many
damaged files opened, how many were refused, the longest time of the processor in s, and the largest memory of the
process in MB. It uses the files that the tests make, and the real ones of ``../shared/ecg_files`` where they are.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
REAL = ("scp/Example.scp", "sierra/1_03_129DYPRG.XML", "sierra/1_04_ad4d3d80-d165_orig.xml")


def seeds() -> dict[str, tuple[bytes, dict[str, object]]]:
    """Return the files to damage and what has to be said of them."""
    files, formats = import_module("ecg_files"), import_module("ecg_formats")  # of the tests

    found = {name: (data, formats.HINTS.get(name, {})) for name, data in formats.MADE.items()}
    found["WFDB header"] = (formats.wfdb(formats.SIGNAL, formats.RATE)["x.hea"], {})
    found |= {name: ((files.FOLDER / name).read_bytes(), {}) for name in REAL if (files.FOLDER / name).is_file()}
    return found


def fuzz(name: str, n_mutations: int, seed: int) -> dict[str, object]:
    """Open damaged versions of one file in this process."""
    from ecgkit.errors import EcgkitError
    from ecgkit.readers import open_ecg

    data, hints = seeds()[name]
    formats = import_module("ecg_formats")
    samples = formats.wfdb(formats.SIGNAL, formats.RATE)["x.dat"]
    rng, slowest, opened = np.random.default_rng(seed), 0.0, 0
    for number in range(n_mutations):
        damaged = formats.mutate(data, rng)
        begin = time.process_time()
        try:
            open_ecg({"x.hea": damaged, "x.dat": samples} if name == "WFDB header" else damaged, **hints)  # type: ignore[arg-type]
            opened += 1
        except EcgkitError as error:
            if "\n" in str(error):
                raise AssertionError(f"mutation {number}: the message has several lines: {error}") from error
        slowest = max(slowest, time.process_time() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"opened": opened, "refused": n_mutations - opened, "slowest_s": slowest, "memory_mb": memory}


def main() -> int:
    """Run every format in a process of its own, so that a crash is a line as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(fuzz(arguments.only, arguments.mutations, arguments.seed)))
        return 0
    failed = 0
    for name in [arguments.only] if arguments.only else list(seeds()):
        command = [sys.executable, __file__, "--worker", "--only", name, "--mutations", str(arguments.mutations)]
        result = subprocess.run([*command, "--seed", str(arguments.seed)], capture_output=True, text=True, check=False)
        if result.returncode:
            failed += 1
            print(f"{name}: exit code {result.returncode}: {result.stderr.strip().splitlines()[-1:]}")
            continue
        found = json.loads(result.stdout)
        bad = found["slowest_s"] > 5 or found["memory_mb"] > 1000
        failed += bad
        print(
            f"{name}: {found['opened']} opened, {found['refused']} refused, at most {found['slowest_s']:.2f} s, "
            f"{found['memory_mb']:.0f} MB{' TOO MUCH' if bad else ''}",
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
