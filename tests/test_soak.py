"""What the table of faults counts as disturbed (``tests/soak_faults.py``)."""

# ruff: noqa: ARG005, S311

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import soak_faults
from soak_faults import BY_NAME, Chain, Run, Step, Trial

STEP = Step("touch", (), "", ("made",), after="", notebook=False)


def start(root: Path, program: str) -> Run:
    """Start a program in place of a command."""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=root, start_new_session=True)
    return Run(process, "none of these", Path(os.devnull))


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Return a chain of one step, which writes a file and waits as long as the test says."""
    (tmp_path / "beginning" / "files").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "made").write_text("made")
    made = soak_faults.fingerprint(STEP, tmp_path / "root")
    chain = Chain(tmp_path, {"touch": 0.5}, {"touch": 1}, {"touch": made})
    chain.locks["touch"] = chain.locks["predict"]
    monkeypatch.setattr(soak_faults, "DRAWS", 3)
    return chain


def test_a_fault_after_the_end_of_the_run_is_drawn_again(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []

    def begin(step: Step, root: Path, **_: object) -> Run:
        del step
        begun.append(0)
        return start(root, "open('made', 'w').write('made')")

    monkeypatch.setattr(soak_faults, "begin", begin)
    monkeypatch.setattr(Trial, "wait_for_moment", lambda self, run: run.process.wait())
    found, what = soak_faults.try_scenario(chain, STEP, "kill", random.Random(1))
    assert found == ["not disturbed in 3 draws"]
    assert what.startswith("draw 3;")
    assert len(begun) == 3


def test_a_run_that_a_fault_ended_is_repeated_once(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = ["import time; time.sleep(30)", "open('made', 'w').write('made')"]
    monkeypatch.setattr(soak_faults, "begin", lambda step, root, **_: start(root, programs.pop(0)))
    monkeypatch.setattr(Trial, "wait_for_moment", lambda self, run: None)
    assert soak_faults.try_scenario(chain, STEP, "kill", random.Random(1))[0] == []
    assert programs == []


def test_other_bytes_are_a_failure(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = ["import time; time.sleep(30)", "open('made', 'w').write('other')"]
    monkeypatch.setattr(soak_faults, "begin", lambda step, root, **_: start(root, programs.pop(0)))
    monkeypatch.setattr(Trial, "wait_for_moment", lambda self, run: None)
    assert soak_faults.try_scenario(chain, STEP, "kill", random.Random(1))[0] == [
        "not the bytes of the undisturbed run: made"
    ]


def test_a_sample_has_every_step_before_the_second_of_any() -> None:
    table = [(step, fault) for step in BY_NAME.values() for fault in ("kill", "terminate", "interrupt")]
    drawn = soak_faults.draw_evenly(list(table), random.Random(1))
    assert sorted(drawn, key=str) == sorted(table, key=str)
    assert {step.name for step, _ in drawn[: len(BY_NAME)]} == {*BY_NAME}
    assert drawn[0][0].name == "compare"
