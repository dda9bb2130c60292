"""Is a training in two processes as good as in one? The macro AUC of both for each seed, and the mean difference.

    python benchmarks/processes.py [--model cnn] [--epochs 5] [--fraction 1] [--seeds 3] --root DIR

Trains on the dataset ``demo`` of a folder as the notebook does: in one process, and under torchrun in two, which share
each batch; both at the same time, since only the AUC counts. Batch statistics are then those of each share, and dropout
and augmentation draw other numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

LAUNCHERS = {
    1: [sys.executable],
    2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
}
FOLDS = (9, 10)


def train(arguments: argparse.Namespace) -> None:
    """Train as one of the processes of a launcher; the first one prints the macro AUC of each fold."""
    from ecgkit.sessions import Session
    from ecgkit.stats import macro_auc
    from ecgkit.training import TrainingConfig, fit, predict_folds, training_data
    from ecgkit.training.fitting import follow
    from ecgkit.workflow import launcher

    settings: dict[str, Any] = {"dataset": "demo", "model": arguments.model, "epochs": arguments.epochs}
    settings |= {"train_fraction": arguments.fraction, "seed": arguments.seed}
    config = TrainingConfig.resolve(arguments.root, **settings)
    data, session = training_data(config, arguments.root), Session(arguments.to)
    if launcher.rank():
        follow(session, config, data)
        return
    table = predict_folds(fit(session, config, data), data, folds=FOLDS)
    columns = [[f"{kind}_{name}" for name in data.classes] for kind in ("true", "prob")]
    parts = [table[table["fold"] == fold] for fold in FOLDS]
    print(json.dumps([macro_auc(*(part[names].to_numpy(float) for names in columns)) for part in parts]))


def start(arguments: argparse.Namespace, processes: int, seed: int, folder: Path) -> subprocess.Popen[str]:
    """Start a training in so many processes."""
    folder.mkdir(parents=True)
    command = [*LAUNCHERS[processes], __file__, "--to", str(folder), "--root", str(arguments.root)]
    command += ["--model", arguments.model, "--epochs", str(arguments.epochs)]
    command += ["--fraction", str(arguments.fraction), "--seed", str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> list[float]:
    """Return the macro AUC of each fold."""
    lines = process.communicate()[0].splitlines()
    found: list[float] = json.loads(next(line for line in lines if line.startswith("[")))
    return found


def main() -> None:
    """Print the table, or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with processed_datasets/demo")
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the training patients")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.to:
        train(arguments)
        return
    with tempfile.TemporaryDirectory() as temporary:
        started = [
            [start(arguments, number, seed, Path(temporary) / f"{number}_{seed}") for seed in range(arguments.seeds)]
            for number in LAUNCHERS
        ]
        one, two = (np.array([result(process) for process in of_seeds]) for of_seeds in started)
    print("| seed | fold | one process | two | difference |\n|---|---|---|---|---|")
    for (seed, column), value in np.ndenumerate(one):
        other = two[seed, column]
        print(f"| {seed} | {FOLDS[column]} | {value:.4f} | {other:.4f} | {other - value:+.4f} |")
    for fold, difference, values in zip(FOLDS, (two - one).T, one.T, strict=True):
        spread = (
            f"standard deviation {difference.std(ddof=1):.4f}; of one process over the seeds {values.std(ddof=1):.4f}"
        )
        print(f"fold {fold}: mean difference {difference.mean():+.4f}, {spread}")


if __name__ == "__main__":
    main()
