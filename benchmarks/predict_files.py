"""Measure what reading and checking files adds to the network: `ecgkit predict --no-measurements` on a folder.

    python benchmarks/predict_files.py [FOLDER] [--records 512] [--seconds 20] [--model resnet1d] [--threads 2]

FOLDER holds ECG files, such as WFDB copies of PTB-XL at 100 Hz; by default, synthetic ones are written into a temporary
folder. The files are answered as the command does it, and the prepared signals of the same files go through the network
alone (the plain forward pass in float32), in turns, so that both meet the same load of the machine. Printed are records
per second, and the ratio to the plain forward pass, by wall time (the best of the turns) and by the time of the
processor; in float32, and in bfloat16 where the processor has it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ecgkit import load_model, open_ecg
from ecgkit.inference.answers import answer_ecgs
from ecgkit.inference.batches import default_device, has_bfloat16, prepared_batches, run_batches
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.readers import save_ecg
from ecgkit.readers.files import find_ecg_files
from ecgkit.sources.demo import Demo

LEAST = 0.9
"""The smallest ratio to the plain forward pass that is accepted."""


def write_files(folder: Path, n_records: int) -> None:
    """Write synthetic WFDB records."""
    demo = Demo(n_records=n_records)
    for record_id in demo.records["record_id"]:
        save_ecg(demo.read(record_id), folder / f"{record_id}.hea")


def measure(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, tuple[float, float]]:
    """Return the best wall time and the mean processor time in s of each call; the calls take turns."""
    for call in calls.values():
        call()
    wall: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - start[0])
            busy[name].append(time.process_time() - start[1])
    return {name: (min(wall[name]), float(np.mean(busy[name]))) for name in calls}


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--records", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each")
    parser.add_argument("--model", default="resnet1d")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as made:
        if arguments.folder is None:
            write_files(Path(made), arguments.records)
        files = find_ecg_files([arguments.folder or made])[: arguments.records]
        plain = load_model(arguments.model)
        assert isinstance(plain, NetworkPredictor)  # noqa: S101 - for the type checker
        trained = plain.trained
        ready = list(
            prepared_batches([open_ecg(f) for f in files], trained.preparation, None, n_read=trained.n_samples)
        )
        calls: dict[str, Callable[[], object]] = {
            "plain": lambda: run_batches(trained.model, iter(ready), trained.predict, n_records=len(files))
        }
        for precision in ("float32", *(["bfloat16"] if has_bfloat16(default_device()) else [])):
            model = load_model(arguments.model, precision=precision)

            def answer(model: object = model) -> list[object]:
                sources = [(str(file), file) for file in files]
                return [a.to_row() for a in answer_ecgs(sources, model, measurements=False, windows=False)]  # type: ignore[arg-type]

            calls[precision] = answer
        found = measure(calls, arguments.seconds)
    for name, (wall, busy) in found.items():
        ratios = f"{found['plain'][0] / wall:.2f} by wall time, {found['plain'][1] / busy:.2f} by processor time"
        print(f"{name:<9} {len(files) / wall:7.1f} records/s, {1000 * busy / len(files):.2f} ms of processor: {ratios}")
    print(f"at least {LEAST}")


if __name__ == "__main__":
    main()
