"""Compare the models that ship as ONNX graphs with torch: probabilities, records per second, and start-up.

    python benchmarks/onnx_graphs.py [--ptbxl FOLDER] [--records 500]

Probabilities: the largest difference over records of folds 9 and 10 of PTB-XL (``--ptbxl``), or of the demo. Speed: the
ratio of ONNX Runtime's records per second to torch's, from ECGs to probabilities, with one and two threads. Start-up:
``ecgkit predict`` of one file in a fresh process as a ratio to ``import torch``, the minimum of several runs in turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ecgkit
from ecgkit.inference.export import export_model
from ecgkit.inference.model_folder import SHIPPED, shipped
from ecgkit.readers import save_ecg
from ecgkit.sources.demo import Demo
from ecgkit.sources.ptbxl.source import PtbXl

RUNS = 5
PREDICT = "import sys; from ecgkit.cli import main; sys.exit(main(['predict', *sys.argv[1:]]))"
SPEED = """
import sys, time, numpy as np, ecgkit
model, signals = ecgkit.load_model(sys.argv[1]), np.load(sys.argv[2])
if model.backend == "torch":
    import torch
    torch.set_num_threads(int(sys.argv[3]))
ecgs = [ecgkit.ECG(signal, 100) for signal in signals]
model.predict_proba(ecgs[:64])
times = []
for _ in range(3):
    start = time.perf_counter()
    model.predict_proba(ecgs)
    times.append(time.perf_counter() - start)
print(len(ecgs) / min(times))
"""


def read_signals(ptbxl: str | None, n_records: int) -> np.ndarray:
    """Return records of PTB-XL's folds 9 and 10, or of the demo, at 100 Hz."""
    if ptbxl is None:
        demo = Demo(n_records=max(20, n_records), seed=1)
        return np.stack([demo.read(name).signal for name in demo.records["record_id"]])
    source = PtbXl(ptbxl)
    names = source.records.query("fold >= 9")["record_id"].iloc[:n_records]
    return np.stack([source.read(name).signal for name in names])


def run(code: str, *arguments: str, threads: int = 1) -> str:
    """Run code in a fresh process and return what it prints."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def timed(code: str, *arguments: str) -> float:
    """Return the seconds that a fresh process takes."""
    start = time.perf_counter()
    run(code, *arguments)
    return time.perf_counter() - start


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ptbxl", help="the folder of PTB-XL")
    parser.add_argument("--records", type=int, default=500)
    arguments = parser.parse_args()
    signals = read_signals(arguments.ptbxl, arguments.records)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / "signals.npy", signals)
        save_ecg(ecgkit.ECG(signals[0], 100), folder / "one.npz")
        models = {name: ecgkit.load_model(name) for name in shipped() if name != "ensemble"}
        for name, torch_model in models.items():
            if torch_model.takes_metadata:  # a graph reads the signal alone
                continue
            graph = export_model(SHIPPED / name, folder / name, format="onnx")
            onnx_model = ecgkit.load_model(graph)
            pair = [model.predict_proba(signals, sampling_rate=100) for model in (torch_model, onnx_model)]
            print(f"{name}: largest difference {np.abs(pair[0] - pair[1]).max():.1e} over {len(signals)} records")
            for threads in (1, 2):
                by = [
                    float(run(SPEED, str(model), str(folder / "signals.npy"), str(threads), threads=threads))
                    for model in (name, graph)
                ]
                speed = f"{by[1] / by[0]:.2f} times torch's records per second, {by[1]:.0f}/s"
                print(f"{name}: {speed}, threads: {threads}")
            pairs = [
                (timed("import torch"), timed(PREDICT, str(folder / "one.npz"), "--model", str(graph)))
                for _ in range(RUNS)
            ]
            alone, predicting = (min(times) for times in zip(*pairs, strict=True))
            print(f"{name}: predicting one file {predicting / alone:.2f} of import torch ({predicting:.2f} s)")


if __name__ == "__main__":
    main()
