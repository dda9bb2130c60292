"""The service as a process: its address, a port that is taken, and an end that finishes what was begun."""

from __future__ import annotations

import json
import re
import runpy
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from service_requests import as_json

from ecgkit.signals.ecg import ECG

COMMAND = [sys.executable, "-m", "ecgkit", "serve", "--workers", "1", "--port"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Return a service and its address; its log is in ``log``."""
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([*COMMAND, "0"], stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_it_prints_its_address_and_finishes_what_it_began_before_it_ends(
    service: tuple[subprocess.Popen[str], str], ecg: ECG, tmp_path: Path
) -> None:
    process, address = service
    assert address.startswith("http://127.0.0.1:")
    port = address.rpartition(":")[2]
    taken = subprocess.run([*COMMAND, port], capture_output=True, text=True, check=False)
    assert (taken.returncode, taken.stdout) == (2, "")
    assert len(taken.stderr.splitlines()) == 1
    assert port in taken.stderr

    page = Path(__file__).resolve().parents[2] / "docs" / "service.md"
    (code,) = re.findall(r"^```python\n(.*?def predict.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "client.py").write_text(code)
    ask_service = runpy.run_path(str(tmp_path / "client.py"))["predict"]
    answer = ask_service(ecg.signal.tolist(), 500, address=address, age=60, sex="male", measurements=True)
    assert len(answer["classes"]) == 5
    assert answer["measurements"]["heart_rate"] > 30

    long = as_json(ECG(np.tile(ecg.signal, 12), ecg.sampling_rate), measurements=True)
    request = urllib.request.Request(  # noqa: S310 - the address of the service
        f"{address}/v1/predict", json.dumps(long).encode(), {"Content-Type": "application/json"}
    )
    got: list[int] = []

    def ask() -> None:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - the address of the service
            got.append(answer.status)

    asking = threading.Thread(target=ask)
    asking.start()
    while "ecgkit_active_requests 1.0" not in urllib.request.urlopen(f"{address}/metrics").read().decode():  # noqa: S310
        assert asking.is_alive()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    asking.join()
    assert got == [200]
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"event": "request", "route": "/v1/predict", "status": 200}.items() <= log[-1].items()


def test_a_model_that_is_none_is_one_line() -> None:
    result = subprocess.run([*COMMAND, "0", "--model", "nobody"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert "'nobody'" in last
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--timeout", "0"], "timeout"),
        (["--host", "no.such.host.invalid"], "invalid"),
        (["--port", "99999"], "99999"),
        (["--token-file", "/no/such/file"], "/no/such/file"),
    ],
)
def test_a_bad_argument_is_one_line(flags: list[str], named: str) -> None:
    result = subprocess.run([*COMMAND, "0", *flags], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert named in result.stderr
