"""Worker processes leave Ctrl-C to the process that started them, from their first moment on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecgkit.processes import WorkerPool, n_cores
from ecgkit.workflow.chain import notebook_executor

PROGRAM = """
import time
from ecgkit.processes import WorkerPool
if __name__ == "__main__":
    pool = WorkerPool(2)
    calls = [pool.submit(time.sleep, 0.1) for _ in range(2)]
    print("submitted", flush=True)
    try:
        [call.result() for call in calls]
        time.sleep(60)
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        print("interrupted")
"""


def test_an_interruption_while_workers_start_is_no_traceback(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "submitted\n"
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    out, errors = run.communicate(timeout=100)
    assert (out, errors, run.returncode) == ("interrupted\n", "", 0)


def test_processes_share_the_cores_and_the_caller_keeps_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with WorkerPool(n_cores()) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with WorkerPool(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"


def test_notebooks_at_the_same_time_share_the_cores_unless_the_user_chose_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    share = str(max(1, n_cores() // 2))
    with notebook_executor(2) as executor:
        assert [executor.submit(os.getenv, name).result() for name in names] == [share, None, share]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with notebook_executor(2) as executor:
        assert [executor.submit(os.getenv, name).result() for name in names] == ["3", None, "3"]
