"""Memory does not grow with the number of records by more than their tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "memory.py"


@pytest.mark.slow
def test_ten_times_the_records_need_little_more_memory_and_a_training_reads_little(tmp_path: Path) -> None:
    found: dict[tuple[str, int], dict[str, float]] = {}
    for n_records in (2_000, 20_000):
        for task in ("preprocess", "start a training"):
            command = [sys.executable, str(BENCHMARK), "--task", task, "--records", str(n_records), "--folder"]
            result = subprocess.run([*command, str(tmp_path / str(n_records))], capture_output=True, check=True)
            found[task, n_records] = json.loads(result.stdout.splitlines()[-1])
    for task in ("preprocess", "start a training"):
        small, large = (found[task, n_records]["anonymous"] for n_records in (2_000, 20_000))
        assert large - small < 40, found
    signals = (tmp_path / "20000" / "signals.npy").stat().st_size / 2**20
    assert found["start a training", 20_000]["read"] < signals / 2
