"""Where the real ECG files are, which are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ECGKIT_ECG_FILES") or Path(__file__).resolve().parents[2] / "shared" / "ecg_files")


def real_file(name: str) -> Path:
    """Return a real ECG file, or skip."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"no {path}: real ECG files are not part of the project")
    return path
