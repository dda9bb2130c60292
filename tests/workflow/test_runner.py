"""The runner is strict where papermill is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ecgkit.cli import main
from ecgkit.errors import EcgkitError
from ecgkit.sessions import Session
from ecgkit.workflow.runner import run_notebook, shown_parameters, split_parameters

PARAMETERS = 'dataset = "demo"\nlearning_rate = 1e-3\nepochs: int = None\nseed = 0\nmetadata = False'


KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write(path: Path, *cells: str, tags: tuple[int, ...] = (0,)) -> Path:
    notebook = nbformat.v4.new_notebook(metadata=KERNEL)
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    for index in tags:
        notebook.cells[index].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(tmp_path / "n.ipynb", PARAMETERS, "pass")


def test_fields_that_the_cell_does_not_show_go_into_options(tmp_path: Path) -> None:
    notebook = write(tmp_path / "n.ipynb", f"{PARAMETERS}\noptions = {{}}", "pass")
    values = {"dataset": "ptbxl", "epochs": 3, "noise": 0.1}
    assert split_parameters(notebook, values) == {"dataset": "ptbxl", "epochs": 3, "options": {"noise": 0.1}}
    assert split_parameters(notebook, {"seed": 1}) == {"seed": 1}


def test_a_notebook_without_options_takes_what_it_shows(notebook: Path) -> None:
    with pytest.raises(EcgkitError, match="'noise'"):
        split_parameters(notebook, {"seed": 1, "noise": 0.1})


def test_a_notebook_has_one_parameters_cell(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="0 cells tagged"):
        shown_parameters(write(tmp_path / "none.ipynb", "a = 1", tags=()))
    with pytest.raises(EcgkitError, match="2 cells tagged"):
        shown_parameters(write(tmp_path / "two.ipynb", "a = 1", "b = 1", tags=(0, 1)))


CLOSE = """
import os
import signal
import subprocess
import sys
from pathlib import Path
from ecgkit.sessions import Session
Session(Path(os.environ["ECGKIT_SESSION"])).close()
"""


KILLED = "import os\nimport signal\nos.kill(os.getpid(), signal.SIGKILL)"
ENDLESS = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})\nwhile True: pass"


def make_session(tmp_path: Path) -> Session:
    session = Session(tmp_path / "session_1")
    session.path.mkdir()
    return session


def test_a_run_ends_with_the_executed_copy_and_done(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    run_notebook(write(tmp_path / "n.ipynb", "seed = 0", "print('seed is', seed)", CLOSE), {"seed": 7}, session)
    assert session.is_done
    executed = nbformat.read(session.path / "n.ipynb", as_version=4)
    assert "seed is 7" in executed.cells[2].outputs[0].text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.ipynb", "session_1"]
    assert "ECGKIT_SESSION" not in os.environ


def test_an_early_exit_is_no_success(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    notebook = write(tmp_path / "n.ipynb", "seed = 0", "import sys\nsys.exit(0)", CLOSE)
    with pytest.raises(EcgkitError, match=r"n\.ipynb ended before its last cell|SystemExit"):
        run_notebook(notebook, {}, session)
    assert not session.is_done
    assert (tmp_path / "session_1.failed.ipynb").is_file()
    assert not (session.path / "n.ipynb").exists()


def test_an_error_in_a_cell_becomes_one_line(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    raising = "from ecgkit.errors import EcgkitError\nraise EcgkitError('no dataset x: make it')"
    with pytest.raises(EcgkitError, match=r"^n\.ipynb, cell 3: no dataset x: make it \(see .*failed\.ipynb\)$"):
        run_notebook(write(tmp_path / "n.ipynb", "seed = 0", raising, CLOSE), {"seed": 1}, session)
    with pytest.raises(EcgkitError, match="cell 3: ZeroDivisionError: division by zero"):
        run_notebook(write(tmp_path / "n.ipynb", "seed = 0", "1 / 0", CLOSE), {"seed": 1}, session)
    assert not session.is_done


@pytest.mark.parametrize(
    ("cell", "named"),
    [("import os\nos._exit(1)", "its kernel died"), (KILLED, "its kernel died"), (ENDLESS, "3 s")],
    ids=["exits", "killed", "endless"],
)
def test_a_cell_that_does_not_come_back_is_one_line_and_the_session_can_be_resumed(
    cell: str, named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = make_session(tmp_path)
    notebook = write(tmp_path / "n.ipynb", "seed = 0", cell, CLOSE)
    with pytest.raises(EcgkitError, match=rf"^n\.ipynb, cell 3: .*{named}.* \(see .*failed\.ipynb\)$") as caught:
        run_notebook(notebook, {"seed": 1}, session, cell_timeout=3)
    assert cell.splitlines()[0] in caught.value.details
    assert not session.is_done
    assert not session.is_running
    assert (tmp_path / "session_1.failed.ipynb").is_file()
    assert capfd.readouterr().err == ""
    run_notebook(write(tmp_path / "n.ipynb", "seed = 0", "pass", CLOSE), {}, session)
    assert session.is_done
    assert not (tmp_path / "session_1.failed.ipynb").exists()


@pytest.mark.parametrize("times", [1, 9])
def test_a_kernel_that_dies_before_its_first_cell_is_started_once_more(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nfrom pathlib import Path\n"
        f"starts = Path({str(tmp_path / 'starts')!r})\n"
        "if any('ipykernel' in argument for argument in sys.orig_argv):\n"
        "    with starts.open('a') as file:\n        file.write('x')\n"
        f"    if starts.stat().st_size <= {times}:\n        os._exit(1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    session = make_session(tmp_path)
    notebook = write(tmp_path / "n.ipynb", "seed = 0", "print('seed is', seed)", CLOSE)
    if times == 1:
        run_notebook(notebook, {"seed": 7}, session)
        executed = nbformat.read(session.path / "n.ipynb", as_version=4)
        assert len(executed.cells) == 4
        assert "seed is 7" in executed.cells[2].outputs[0].text
    else:
        with pytest.raises(EcgkitError, match=r"^n\.ipynb, before its first cell: its kernel died"):
            run_notebook(notebook, {"seed": 7}, session)
    assert (tmp_path / "starts").read_text() == "xx"


@pytest.mark.parametrize("seconds", [0, -5])
def test_a_cell_timeout_is_positive(seconds: int, demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "demo", "--cell-timeout", str(seconds), "--root", str(demo_root)]) == 2
    assert f"cell_timeout is {seconds}:" in capsys.readouterr().err
    assert not (demo_root / "training_sessions").exists()


def test_an_interruption_leaves_no_traceback(tmp_path: Path) -> None:
    slow = write(tmp_path / "n.ipynb", PARAMETERS, 'import time\nprint("sleeping", flush=True)\ntime.sleep(60)')
    (tmp_path / "session_1").mkdir()
    script = (
        "from pathlib import Path\n"
        "from ecgkit.workflow.runner import run_notebook\n"
        "from ecgkit.sessions import Session\n"
        "try:\n"
        f"    run_notebook(Path({str(slow)!r}), {{}}, Session(Path({str(tmp_path / 'session_1')!r})))\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    # A new process group, so that the signal reaches the kernel as well, as Ctrl-C on a terminal does.
    started = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads here
    )
    assert started.stdout is not None
    while "sleeping" not in (line := started.stdout.readline()):
        assert line, started.communicate()[1]
    os.killpg(started.pid, signal.SIGINT)
    output, errors = started.communicate(timeout=60)
    assert output.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert not (tmp_path / "session_1" / "DONE").is_file()
