"""Ctrl-C is one line and exit code 130, whenever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

PROGRAM = """
import sys, time, pathlib
from ecgkit.cli import main
folder = pathlib.Path(sys.argv[1])
(folder / "slow_module.py").write_text("import time\\nprint('importing', flush=True)\\ntime.sleep(30)")
sys.path.insert(0, str(folder))
import ecgkit.cli.command as command
command.main = lambda _: __import__("slow_module")
sys.exit(main([]))
"""


def interrupted(command: list[str], seconds: float) -> tuple[int, list[str]]:
    """Interrupt a command some time after its first line, as a terminal does: the whole group of processes."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    return process.returncode, error.splitlines()


@pytest.mark.parametrize("seconds", [0.0, 1.0, 2.5, 5.0])
def test_ctrl_c_while_notebooks_run(seconds: float, demo_root: Path, tmp_path: Path) -> None:
    (tmp_path / "processed_datasets").mkdir()
    (tmp_path / "processed_datasets" / "mine").symlink_to(demo_root / "processed_datasets" / "demo")
    options = ["--dataset", "mine", "--models", "cnn,resnet1d", "--jobs", "2", "--no-probes", "--root", str(tmp_path)]
    code, lines = interrupted([sys.executable, "-m", "ecgkit", "run", *options], seconds)
    assert (code, len(lines)) == (130, 1)
    assert "interrupted" in lines[0]


def test_ctrl_c_while_a_package_is_imported(tmp_path: Path) -> None:
    code, lines = interrupted([sys.executable, "-c", PROGRAM, str(tmp_path)], 0.5)
    assert (code, len(lines)) == (130, 1)


IN_A_CELL = """
import sys
from pathlib import Path
from ecgkit.errors import EcgkitError
from ecgkit.workflow.runner import execute
try:
    execute(Path("cell.ipynb"), Path(sys.argv[1]), {}, verbose=True)
except (EcgkitError, KeyboardInterrupt):
    sys.exit(130)
"""


def test_ctrl_c_inside_a_cell_prints_nothing_of_the_libraries(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import time\nprint('in'); time.sleep(60)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(notebook, tmp_path / "cell.ipynb")
    assert interrupted([sys.executable, "-c", IN_A_CELL, str(tmp_path / "cell.ipynb")], 0.5) == (130, [])
