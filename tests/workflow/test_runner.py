"""The runner is strict where papermill is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from ecgkit.errors import EcgkitError
from ecgkit.sessions import Session
from ecgkit.workflow.runner import check_parameters, declared_parameters, run_notebook

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


def test_parameters_have_the_types_of_their_literals(notebook: Path) -> None:
    given = {"dataset": "ptbxl", "learning_rate": "3e-4", "epochs": 3, "metadata": True}
    assert check_parameters(notebook, given) == given | {"learning_rate": 3e-4}
    assert isinstance(check_parameters(notebook, {"learning_rate": 1})["learning_rate"], float)
    assert check_parameters(notebook, {"epochs": None}) == {"epochs": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rat": 1.0}, "no parameter 'learning_rat'.*learning_rate"),
        ({"dataset": 1}, "dataset of n.ipynb is 1, a int: give a value of type str"),
        ({"learning_rate": "fast"}, "learning_rate of n.ipynb is 'fast'"),
        ({"epochs": "3"}, "epochs of n.ipynb is '3', a str: give a value of type int"),
        ({"epochs": True}, "epochs of n.ipynb is True"),
        ({"seed": 1.5}, "seed of n.ipynb is 1.5"),
        ({"seed": None}, "seed of n.ipynb is None"),
        ({"metadata": 1}, "metadata of n.ipynb is 1"),
    ],
)
def test_what_papermill_lets_pass_is_an_error(notebook: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        check_parameters(notebook, given)


def test_a_notebook_has_one_parameters_cell_of_literals(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="0 cells tagged"):
        declared_parameters(write(tmp_path / "none.ipynb", "a = 1", tags=()))
    with pytest.raises(EcgkitError, match="2 cells tagged"):
        declared_parameters(write(tmp_path / "two.ipynb", "a = 1", "b = 1", tags=(0, 1)))
    for source in ("a = 1 + f()", "import os", "a, b = 1, 2", "print(1)"):
        with pytest.raises(EcgkitError, match="assign literals"):
            declared_parameters(write(tmp_path / "code.ipynb", source))
    with pytest.raises(EcgkitError, match="declares a without a type"):
        declared_parameters(write(tmp_path / "untyped.ipynb", "a = None"))


CLOSE = """
import os
import signal
import subprocess
import sys
from pathlib import Path
from ecgkit.sessions import Session
Session(Path(os.environ["ECGKIT_SESSION"])).close()
"""


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


def test_a_kernel_that_dies_is_one_line(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    notebook = write(tmp_path / "n.ipynb", "seed = 0", "import os\nos._exit(1)", CLOSE)
    with pytest.raises(EcgkitError, match="its kernel died"):
        run_notebook(notebook, {}, session)
    assert not session.is_done


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
    # A group of its own, so that the signal reaches the kernel as well, as Ctrl-C on a terminal does.
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
    said, errors = started.communicate(timeout=60)
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert not (tmp_path / "session_1" / "DONE").is_file()
