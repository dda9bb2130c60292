"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from ecgkit import paths
from ecgkit.datasets import Dataset, build_dataset, open_dataset
from ecgkit.sources.demo import Demo

pytest_plugins = ["conftest_ptbxl"]


def real_ptbxl() -> Path | None:
    """Find a PTB-XL folder: the one that ECGKIT_PTBXL names, or the project's."""
    named = os.environ.get("ECGKIT_PTBXL")
    folder = Path(named) if named else paths.project_root() / paths.RAW / "ptbxl"
    return folder if (folder / "ptbxl_database.csv").is_file() else None


@pytest.fixture(scope="session")
def ptbxl_folder() -> Path:
    """Return the folder of the real PTB-XL, or skip."""
    folder = real_ptbxl()
    if folder is None:
        pytest.skip("no PTB-XL: set ECGKIT_PTBXL to its folder")
    return folder


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a project's folder that holds a small processed demo dataset called ``demo``, shared by all tests."""
    root = tmp_path_factory.mktemp("project")
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent  # where all workers find what the first of them has built
    with FileLock(common / "demo.lock"):
        build_dataset(Demo(n_records=300, seed=3), common / "demo", progress=False, jobs=1)
    shutil.copytree(common / "demo", root / paths.PROCESSED / "demo")
    yield root
    left = sorted({path.name for path in root.iterdir()} - {paths.PROCESSED})
    assert not left, f"a test has written {left} into the folder that all tests share"


@pytest.fixture(scope="session")
def demo_dataset(demo_root: Path) -> Dataset:
    """Return the small demo dataset with its superclass labels."""
    return open_dataset(demo_root / paths.PROCESSED / "demo", label_set="superclass")
