"""Measure what reading and checking files adds to the network: `ecgkit predict --no-measurements` on many files.

    python benchmarks/predict_files.py [FOLDER] [--records 256] [--seconds 80] [--model resnet1d]
    python benchmarks/predict_files.py FOLDER --command [--model resnet1d]

FOLDER holds ECG files, such as WFDB copies of PTB-XL at 100 Hz; by default, synthetic ones are written into a temporary
folder. One process with one thread answers them, which is what each process of ``--jobs`` does on its core. The calls
take turns on a few files at once, so that all meet the same load of the machine:

- plain: the plain forward pass, which is the network as it was trained, on the prepared signals of the same files,
  with the windows, the batches and the precision of the command
- network: the faster copy that the command uses, on the same prepared signals
- unchecked: files are opened, prepared and predicted without any check
- predict: rows as the command writes them

Printed are the mean time of the processor per file, records per second of each core, and the ratio to the plain
forward pass of the same precision and to that of float32; in float32, and in bfloat16 where the processor has it.
Numbers so far are printed every ten seconds.

``--command`` measures the whole command with its start, its processes and its writing, in seconds of a machine that
does nothing else, next to the plain forward pass in one process per core, of which start and preparation do not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import torch

from ecgkit import load_model, open_ecg
from ecgkit.cli.predict import UNIT
from ecgkit.inference.answers import answer_ecgs
from ecgkit.inference.batches import default_device, has_bfloat16, prepared_batches, run_batches
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.processes import n_cores
from ecgkit.readers import save_ecg
from ecgkit.readers.files import find_ecg_files
from ecgkit.sources.demo import Demo

LEAST = 0.9
"""The smallest ratio to the plain forward pass that is accepted."""

Calls = dict[str, Callable[[], object]]


def write_files(folder: Path, n_records: int) -> None:
    """Write synthetic WFDB records."""
    demo = Demo(n_records=n_records)
    for record_id in demo.records["record_id"]:
        save_ecg(demo.read(record_id), folder / f"{record_id}.hea")


def calls_on(files: list[Path], model: NetworkPredictor) -> Calls:
    """Return what is compared, on the same files."""
    trained, faster = model.trained, model.faster
    ready = list(
        prepared_batches([open_ecg(file) for file in files], trained.preparation, None, n_read=model.n_samples)
    )
    run = partial(run_batches, n_records=len(files), precision=model.precision)
    sources = [(str(file), file) for file in files]
    return {
        "plain": lambda: run(trained.model, iter(ready), trained.predict),
        "network": lambda: run(faster.model, iter(ready), faster.predict_with_features),
        "unchecked": lambda: model.outcome([open_ecg(file) for file in files], anyway=True),
        "predict": lambda: [a.to_row() for a in answer_ecgs(sources, model, measurements=False, windows=False)],
    }


def report(spent: dict[tuple[str, str], float], n_files: Counter[tuple[str, str]]) -> None:
    """Print the numbers so far."""
    for (precision, name), seconds in spent.items():
        each = seconds / n_files[precision, name]
        plain, in_float32 = (spent[other, "plain"] / n_files[other, "plain"] for other in (precision, "float32"))
        ratios = f"ratio {plain / each:.2f}, to float32 {in_float32 / each:.2f}"
        print(f"{precision} {name:<9} {1000 * each:6.2f} ms {1 / each:6.0f} records/s per core, {ratios}")
    print(flush=True)


def forward_seconds(files: list[Path], model: str) -> float:
    """Return the seconds of the plain forward pass over files in this process, with one thread."""
    torch.set_num_threads(1)
    loaded, seconds = load_model(model), 0.0
    assert isinstance(loaded, NetworkPredictor)  # noqa: S101 - for the type checker
    for first in range(0, len(files), UNIT):
        plain = calls_on(files[first : first + UNIT], loaded)["plain"]
        start = time.perf_counter()
        plain()
        seconds += time.perf_counter() - start
    return seconds


def compare_command(folder: Path, files: list[Path], model: str) -> None:
    """Print the time of the whole command next to the plain forward pass in one process per core."""
    cores = n_cores()
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        plain = max(pool.map(partial(forward_seconds, model=model), [files[i::cores] for i in range(cores)]))
    print(f"plain forward pass in {cores} processes: {plain:.1f} s, {len(files) / plain:.0f} records/s", flush=True)
    for precision in ("float32", "auto"):
        with tempfile.TemporaryDirectory() as made:
            options = ["--model", model, "--no-measurements", "--precision", precision, "--to", f"{made}/rows.csv"]
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "ecgkit", "predict", str(folder), *options], check=False)
            seconds = time.perf_counter() - start
        ratio = f"ratio {plain / seconds:.2f}"
        print(f"ecgkit predict --precision {precision}: {seconds:.1f} s, {len(files) / seconds:.0f} records/s, {ratio}")


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--model", default="resnet1d")
    parser.add_argument("--command", action="store_true")
    arguments = parser.parse_args()
    if arguments.command:
        compare_command(arguments.folder, find_ecg_files([arguments.folder]), arguments.model)
        return
    torch.set_num_threads(1)
    precisions = ["float32", *(["bfloat16"] if has_bfloat16(default_device()) else [])]
    models = {precision: load_model(arguments.model, precision=precision) for precision in precisions}
    spent, n_files = defaultdict[tuple[str, str], float](float), Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as made:
        if arguments.folder is None:
            write_files(Path(made), arguments.records)
        files = find_ecg_files([arguments.folder or made])[: arguments.records]
        print(f"{len(files)} files, {UNIT} at once, for {arguments.seconds:g} s", flush=True)
        end, next_report = time.perf_counter() + arguments.seconds, time.perf_counter() + 10
        for first in cycle(range(0, len(files), UNIT)):
            some = files[first : first + UNIT]
            for precision, model in models.items():
                assert isinstance(model, NetworkPredictor)  # noqa: S101 - for the type checker
                for name, call in calls_on(some, model).items():
                    start = time.process_time()
                    call()
                    spent[precision, name] += time.process_time() - start
                    n_files[precision, name] += len(some)
            if time.perf_counter() >= min(end, next_report):
                report(spent, n_files)
                next_report += 10
            if time.perf_counter() >= end:
                break
    print(f"at least {LEAST}")


if __name__ == "__main__":
    main()
