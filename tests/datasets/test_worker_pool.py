"""Worker processes leave Ctrl-C to the process that started them, from their first moment on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import time
from ecgkit.datasets.chunks import WorkerPool
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
