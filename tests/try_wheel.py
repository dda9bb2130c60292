"""Try an installed wheel with its base dependencies in an empty folder: write an ECG, read it, predict, draw."""

from __future__ import annotations

import sys
from pathlib import Path

import ecgkit
from ecgkit.cli import main
from ecgkit.readers import save_ecg
from ecgkit.sources.demo import Demo

if __name__ == "__main__":
    sources = Path(__file__).resolve().parents[1] / "ecgkit"
    assert Path(ecgkit.__file__).resolve().parent != sources, "this is the checkout, not the installed wheel"
    save_ecg(Demo(n_records=20, sampling_rate=500).read("3"), Path("heart.hea"))
    sys.exit(main(["predict", "heart.hea"]) or main(["dashboard", "heart.hea", "--to", "dashboards"]))
