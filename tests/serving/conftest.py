"""The service in this process, with one worker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from ecgkit.readers import save_ecg
from ecgkit.serving.service.app import make_app
from ecgkit.serving.service.settings import Settings
from ecgkit.signals.ecg import ECG
from ecgkit.sources.demo import Demo


@pytest.fixture(scope="session")
def ecg() -> ECG:
    """Return a synthetic ECG of 10 s at 500 Hz."""
    return Demo(n_records=20, sampling_rate=500, seed=4).read("3")


@pytest.fixture(scope="session")
def wfdb_files(ecg: ECG, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of the same ECG as a WFDB record."""
    folder = tmp_path_factory.mktemp("wfdb")
    save_ecg(ecg, folder / "heart.hea")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """Return a client of a service with small limits that is ready."""
    settings = Settings(workers=1, max_megabytes=4, max_seconds=60, max_leads=20, max_streams=3)
    with TestClient(make_app(settings)) as client:
        end = time.monotonic() + 60
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        yield client
