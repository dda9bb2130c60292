"""The command line: one line and exit code 2 for bad input, before anything is written."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest_ptbxl import make_ptbxl, publish

from ecgkit import paths, sessions
from ecgkit.cli import main
from ecgkit.cli.command import GROUPS, make_parser
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.files import COMPARABLE, SAME
from ecgkit.workflow import STEPS
from ecgkit.workflow import chain as pipeline
from ecgkit.workflow.parameters import parameters_of


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("ecgkit: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_a_lack_of_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> Path:
        raise error

    monkeypatch.setattr("ecgkit.cli.command.paths.resolve_root", fail)
    assert main(["sessions"]) == 2
    assert "memory" in one_line(capsys)


def test_a_defect_is_not_called_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> Path:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("ecgkit.cli.command.paths.resolve_root", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["sessions"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--dataset", "ptbxl"], "no PTB-XL in .*--dataset demo"),
        (["run", "--dataset", "holter"], "unknown dataset 'holter': choose one of cinc, code15, demo"),
        (["run", "--models", "resnet1d,vit"], "unknown model 'vit': choose one of resnet1d, xlstm, hybrid"),
        (["run", "--models", ""], "name each model once"),
        (["run", "--models", "xlstm,xlstm"], "name each model once"),
        (["run", "--label-set", "form"], "unknown label set 'form'.*superclass"),
        (["run", "--epochs", "0"], "epochs is 0"),
        (["run", "--seed", "-1"], "seed is -1"),
        (["run", "--seed", "99999999999999999999"], "seed is 99999999999999999999"),
        (["run", "--jobs", "0"], "jobs is 0"),
        (["run", "--raw", "/data/ptb-xl"], "/data/ptb-xl: name the source"),
        (["preprocess", "ptbxl", "--source-options", "n_records=10"], "n_records"),
        (["train", "demo", "--model", "resnet1d", "--force", "--resume"], "choose one of them"),
        (["preprocess", "mitbih"], "unknown source 'mitbih'"),
        (["preprocess", "demo", "--bandpass", "0.5", "60"], "60.*Nyquist"),
        (["preprocess", "demo", "--notch", "50"], "50.*Nyquist"),
        (["preprocess", "demo", "--rate", "250"], "rate is 250"),
        (["preprocess", "demo", "--name", "a/b"], "name is 'a/b'"),
        (["preprocess", "demo", "--source-options", "n_records=3"], "n_records"),
        (["preprocess", "ptbxl"], "no PTB-XL in .*--raw"),
        (["preprocess", "ptbxl"], "run `ecgkit download ptbxl`"),
        (["download", "holter"], "unknown .*'holter'"),
        (["download", "ptbxl", "--limit", "0"], "limit is 0"),
        (["download", "ptbxl", "--mirror", "/data/ptb-xl"], "mirror is '/data/ptb-xl'"),
        (["download", "ptbxl", "--mirror", "file:///a", "--zip", "b"], "mirror and zip_file"),
        (["download", "ptbxl", "--zip", "nowhere.zip"], "nowhere.zip"),
        (["train", "nowhere", "--model", "resnet1d"], "nowhere"),
        (["probe", "session_4"], "no session 'session_4'"),
        (["export-npz", "nowhere"], "nowhere"),
        (["sessions", "--root", "/nowhere/at/all"], "no folder /nowhere/at/all"),
        (["sessions", "show", "3"], "no session '3' in .*training_sessions"),
        (["sessions", "show", "3", "--kind", "probe"], "no session '3' in .*probe_training_sessions"),
        (["sessions", "diff", "1", "2"], "no session '1'"),
        (["sessions", "delete", "1", "--yes"], "no session '1'"),
        (["reproduce", "1"], "no session '1'"),
        (["reproduce", "latest"], "no finished session"),
        (["reproduce", "1", "--tolerance", "nan"], "tolerance is nan: give zero or a positive number"),
        (["sweep", "nowhere.toml"], "no file .*nowhere.toml"),
        (["search", "resnet1d", "--trials", "3"], "no dataset ptbxl in .*ecgkit preprocess"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = [] if "--root" in arguments else ["--root", str(tmp_path)]
    assert main([*arguments, *root]) == 2
    assert re.search(message, one_line(capsys))
    made = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    assert made == []


def test_a_session_that_is_not_finished_is_not_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sessions.create(paths.TRAINING, tmp_path)
    assert main(["probe", "1", "--root", str(tmp_path)]) == 2
    assert "not finished" in one_line(capsys)


def test_a_processed_dataset_takes_no_raw_folder(
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "mine").symlink_to(demo_root / paths.PROCESSED / "demo")
    assert main(["run", "--dataset", "mine", "--raw", "x", "--root", str(tmp_path)]) == 2
    assert "--raw goes with a source" in one_line(capsys)


def test_unknown_words_exit_with_2() -> None:
    for arguments in (
        ["fly"],
        ["download"],
        ["download", "ptbxl", "--rate", "250"],
        ["run", "--modles", "x"],
        ["sessions", "delete"],
        ["sessions", "diff", "1"],
        ["sessions", "burn", "1"],
        ["sessions", "--kind", "trained"],
        ["reproduce"],
        ["sweep", "--jobs", "two", "x.toml"],
        ["search", "resnet1d"],
        ["search", "resnet1d", "--trials", "two"],
        [],
    ):
        try:
            code = main(arguments)
        except SystemExit as exit_info:
            code = exit_info.code
        assert code == 2, arguments


@pytest.mark.parametrize("arguments", [["train", "demo", "--modle", "x"], ["train", "--help"], ["sweep", "--help"]])
def test_flags_are_read_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom ecgkit.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"


def test_every_field_is_a_flag_with_its_documentation() -> None:
    commands = subcommands_of(make_parser(), "command")
    for name in ("preprocess", "train", "probe", "explain", "diagnose", "compare"):
        text = " ".join(commands[name].format_help().split())
        for parameter in parameters_of(STEPS[name].config_class).values():
            if (name, parameter.name) == ("explain", "classes"):  # a text of its own: it holds for files too
                assert "--class A,B" in text
            elif parameter.name != STEPS[name].subject:
                assert f"--{parameter.name.replace('_', '-')}" in text
                assert parameter.text.split(";")[0].split("``")[0].rstrip(" .")[:40] in text, parameter.name


def test_dictionaries_are_pairs_or_json() -> None:
    parsed = make_parser().parse_args(
        ["train", "demo", "--model-options", "dropout=0.5", "widths=[4, 4]", "--model-options", '{"pooling": "max"}']
    )
    assert parsed.model_options == {"dropout": 0.5, "widths": [4, 4], "pooling": "max"}


def test_every_command_takes_a_root() -> None:
    commands = subcommands_of(make_parser(), "command")
    assert set(commands) == {name for names in GROUPS.values() for name in names}
    subcommands = subcommands_of(commands["sessions"], "subcommand")
    assert set(subcommands) == {"list", "show", "diff", "delete"}
    assert all("--root" in command.format_help() for command in [*commands.values(), *subcommands.values()])


def subcommands_of(parser: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    return next(action for action in parser._actions if action.dest == name).choices


def test_a_download_prints_the_folder_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = publish(make_ptbxl(tmp_path / "mirror", 20))
    command = ["download", "ptbxl", "--mirror", mirror.as_uri(), "--root", str(tmp_path)]
    assert main([*command, "--limit", "10"]) == 0
    *summary, folder = capsys.readouterr().out.splitlines()
    assert Path(folder) == tmp_path / paths.RAW / "ptbxl"
    assert "23 files" in summary[0]
    assert "the first 10 records at 100 Hz (of 20)" in summary[1]
    assert main(["preprocess", "ptbxl", "--root", str(tmp_path)]) == 0
    assert "10 records of 6 patients at 100 Hz; a part: the first 10 of 20 records" in capsys.readouterr().out


def test_a_missing_source_is_one_line_with_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--dataset", "ptbxl", "--root", str(tmp_path)]) == 2
    assert "ecgkit download ptbxl" in one_line(capsys)


class TestATerminal:
    """What is typed into a real terminal."""

    @pytest.fixture
    def on_a_real_terminal(self):
        """Return a function that types into the terminal of a command, and returns its exit code and output."""
        pty = pytest.importorskip("pty")

        def run(command: list[str | Path], typed: bytes) -> tuple[int, str]:
            ours, theirs = pty.openpty()
            os.write(ours, typed)
            done = subprocess.run(command, check=False, stdin=theirs, stdout=theirs, stderr=theirs, timeout=120)
            os.close(theirs)
            shown = os.read(ours, 10_000).decode()
            os.close(ours)
            return done.returncode, shown

        return run

    @pytest.mark.parametrize(("typed", "answer"), [(b"\x04", False), (b"n\n", False), (b"y\n", True)])
    def test_the_end_of_input_is_a_no(self, typed: bytes, answer: bool, on_a_real_terminal) -> None:
        code = "from ecgkit.cli.common import on_terminal, confirm; print(on_terminal(), confirm('Really?'))"
        exit_code, shown = on_a_real_terminal([sys.executable, "-c", code], typed)
        assert exit_code == 0
        assert "Really? [y/N]" in shown
        assert shown.split()[-2:] == ["True", str(answer)]


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    assert main(["run", "--root", str(tmp_path)]) == 130
    assert "the same command resumes" in one_line(capsys)
    assert main(["run", "--force", "--root", str(tmp_path)]) == 130
    assert "the same command starts again" in one_line(capsys)
    monkeypatch.setattr("ecgkit.readers.open_ecg", interrupted)
    assert main(["convert", "a.csv", "--format", "edf", "--to", str(tmp_path)]) == 130
    assert "the same command starts again" in one_line(capsys)
    monkeypatch.setattr("ecgkit.cli.steps.run_step", interrupted)
    assert main(["train", "demo", "--model", "cnn", "--force", "--root", str(tmp_path)]) == 130
    assert "with --resume instead of --force" in one_line(capsys)


def test_a_full_disk_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "signals.npy")

    def without_name(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "run", full)
    assert main(["run", "--root", str(tmp_path)]) == 2
    assert "No space left on device: signals.npy" in one_line(capsys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecgkit.cli.predict.list_files", without_name)
        assert main(["predict", "a.csv", "--to", str(tmp_path / "answers.csv")]) == 2
    message = one_line(capsys)
    assert str(tmp_path / "answers.csv") in message  # whose disk it is
    assert "--to" in message


def test_a_rate_that_is_no_number_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["download", "ptbxl", "--rate", "foo"])
    assert "'foo'" in one_line(capsys)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    for _ in range(300):
        sessions.create(paths.TRAINING, tmp_path)
    command = f"{Path(sys.executable).with_name('ecgkit')} sessions --json --root {tmp_path} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=True)
    assert done.stdout == "[\n"
    assert done.stderr == ""


def test_sessions_as_json_is_nothing_but_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "--json", "--root", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []
    session = sessions.create(paths.TRAINING, tmp_path)
    session.write_json("config.json", {"model": "xlstm", "dataset": "demo", "label_set": "superclass", "seed": 0})
    assert main(["sessions", "--json", "--root", str(tmp_path)]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["model"], row["done"], row["fold_10_macro_auc"]) == ("session_1", "xlstm", False, None)
    assert main(["sessions", "--root", str(tmp_path)]) == 0
    assert "xlstm" in capsys.readouterr().out


def write_training(root: Path, metric: float, **config: object) -> None:
    """Write a finished training: of the classes of a label set, or of a quantity."""
    session = sessions.create(paths.TRAINING, root)
    name = "r2" if config.get("target") else "auc"
    entry = {name: {"value": metric, "low": metric - 0.01, "high": metric + 0.01}}
    groups = {"age" if config.get("target") else "macro": entry}
    shared = {"model": "cnn", "seed": 0, "dataset": "demo", "dataset_fingerprint": "abc", "label_set": "superclass"}
    session.write_json("config.json", shared | {"min_records": 0, "target": ""} | config)
    session.write_json("metrics.json", {"version": 1, "fold_9": groups, "fold_10": groups, "bootstrap": {}})
    session.write_text("predictions.parquet", "")
    session.mark_done()


AGE = {"label_set": "", "target": "age"}


def test_an_r2_is_no_macro_auc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_training(tmp_path, 0.91)
    write_training(tmp_path, 0.97, **AGE)
    assert main(["sessions", "--json", "--root", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [f"{fold}_{metric}" for fold in ("fold_9", "fold_10") for metric in ("macro_auc", "r2")]
    assert [[row[name] for name in names] for row in rows] == [[0.91, None, 0.91, None], [None, 0.97, None, 0.97]]
    assert main(["sessions", "show", "2", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^fold_9_r2 +0\.9700 \(0\.9600 to 0\.9800\)$", shown, re.MULTILINE)
    assert "fold_9_macro_auc" not in shown
    assert main(["sessions", "--root", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "R² 0.9700 (0.9600 to 0.9800)" in table
    assert "0.9100 (0.9000 to 0.9200)" in table
    assert "*" not in table.split("\n", 1)[1]  # there is nothing to compare each with


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (AGE, ["age", "superclass"]),
        ({"dataset": "ptbxl", "dataset_fingerprint": "def"}, ["ptbxl", "demo"]),
        ({"dataset_fingerprint": "def"}, ["def", "abc"]),
        ({"label_set": "diagnostic"}, ["diagnostic", "superclass"]),
        ({"min_records": 50}, [" 50 "]),
    ],
)
def test_the_best_is_marked_among_what_can_be_compared(
    other: dict[str, object], shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (0.91, 0.92):
        write_training(tmp_path, value)
    assert main(["sessions", "--root", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[1:] if "*" in line] == ["session_2"]
    assert not [text for text in shown if text in table]
    for value in (0.99, 0.98):
        write_training(tmp_path, value, **other)
    assert main(["sessions", "--root", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[1:] if "*" in line] == ["session_2", "session_3"]
    assert [text for text in shown if text in table] == shown


def test_what_can_be_compared_is_what_a_comparison_wants() -> None:
    assert set(COMPARABLE) == {*SAME, "target"}


class TestSessions:
    """Two trainings, a probe of the first, and how they are described; --json prints nothing else."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for seed, dropout in ((0, 0.3), (1, 0.2)):
            session = sessions.create(paths.TRAINING, tmp_path)
            config = {"model": "xlstm", "dataset": "demo", "label_set": "superclass", "seed": seed}
            options = {"model_options": {"dropout": dropout}, "dataset_fingerprint": f"{'ab'[seed]}{'0' * 63}"}
            session.write_json("config.json", config | options)
            packages = {"torch": f"2.{seed + 6}", "numpy": "2.0"}
            session.write_json("environment.json", {"packages": packages, "threads": 2})
            session.mark_done()
        probe = sessions.create(paths.PROBES, tmp_path)
        probe.write_json("config.json", {"training_session": "session_1", "clusters": 5})
        probe.folder("age").write_json("metrics.json", {"fold_10": {"probe": {"r2": {"value": 0.4}}}})
        return tmp_path

    @pytest.fixture
    def say(self, root: Path, capsys: pytest.CaptureFixture[str]):
        """Run a command and give what it prints, or read it as JSON."""

        def call(*arguments: str) -> object:
            assert main(["sessions", *arguments, "--root", str(root)]) == 0
            output = capsys.readouterr()
            assert output.err == ""
            return json.loads(output.out) if "--json" in arguments else output.out

        return call

    def test_list_is_what_stands_for_no_word(self, say) -> None:
        rows = say("list", "--json")
        assert rows == say("--json")
        assert [f"{row['kind']}/{row['name']}" for row in rows] == [
            "training_sessions/session_1",
            "training_sessions/session_2",
            "probe_training_sessions/session_1",
        ]
        assert [row["state"] for row in rows] == ["done", "done", "unfinished"]
        assert [row["kind"] for row in say("--json", "--kind", "probe")] == ["probe_training_sessions"]
        assert "session_1  unfinished  session_1" in say("list", "--kind", "probe")

    def test_options_before_the_word_hold(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["sessions", "--root", str(root), "--json", "--kind", "probe", "list"]) == 0
        assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["session_1"]

    def test_show(self, say) -> None:
        shown = say("show", "1", "--json")
        assert shown["config"]["model_options"] == {"dropout": 0.3}
        assert shown["environment"]["packages"]["torch"] == "2.6"
        assert shown["probes"] == ["probe_training_sessions/session_1"]
        assert shown["files"] == ["DONE", "config.json", "environment.json"]
        text = say("show", "session_1")
        assert re.search(r"^config\.model_options\.dropout +0\.3$", text, re.MULTILINE)
        assert re.search(r'^probes +\["probe_training_sessions/session_1"\]$', text, re.MULTILINE)
        for arguments in (["probe_training_sessions/session_1"], ["1", "--kind", "probe"]):
            probe = say("show", *arguments, "--json")
            assert probe["training_session"] == "session_1"
            assert probe["metrics"] == {"age": {"fold_10": {"probe": {"r2": {"value": 0.4}}}}}

    def test_a_running_session_says_so(self, root: Path, say) -> None:
        with sessions.claim(paths.TRAINING, root, {}):
            assert say("show", "3", "--json")["state"] == "running"
        assert say("show", "3", "--json")["state"] == "unfinished"

    def test_diff(self, say) -> None:
        found = say("diff", "1", "2", "--json")
        assert found["a"] == "training_sessions/session_1"
        fingerprint = {"a": f"a{'0' * 63}", "b": f"b{'0' * 63}"}
        options = {"model_options.dropout": {"a": 0.3, "b": 0.2}, "seed": {"a": 0, "b": 1}}
        assert found["config"] == options | {"dataset_fingerprint": fingerprint}
        assert found["environment"] == {"packages.torch": {"a": "2.6", "b": "2.7"}}
        text = say("diff", "session_1", "session_2")
        assert "  seed: 0 -> 1\n" in text
        assert "  packages.torch: 2.6 -> 2.7\n" in text
        same = say("diff", "1", "1", "--json")
        assert (same["config"], same["environment"]) == ({}, {})
        assert say("diff", "1", "1").count("no difference") == 2

    def left(self, root: Path) -> list[str]:
        return [s.label for kind in (paths.TRAINING, paths.PROBES) for s in sessions.list_sessions(kind, root)]

    def test_delete_asks_on_a_terminal(self, root: Path, say, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = ["n", "", "y"]
        monkeypatch.setattr("ecgkit.cli.sessions.on_terminal", lambda: True)
        monkeypatch.setattr("builtins.input", lambda _: answers.pop(0))
        for _ in range(2):
            assert say("delete", "1").endswith("nothing deleted\n")
        assert len(self.left(root)) == 3
        made = "training_sessions/session_1 (made from it and kept: probe_training_sessions/session_1)"
        assert say("delete", "1") == f"{made}\ndeleted {made}\n"
        assert self.left(root) == ["training_sessions/session_2", "probe_training_sessions/session_1"]

    def test_elsewhere_delete_wants_a_yes(self, root: Path, say, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["sessions", "delete", "1", "2", "--root", str(root)]) == 2
        error = one_line(capsys)
        assert "add --yes to delete training_sessions/session_1 (made from it and kept: probe" in error
        assert len(self.left(root)) == 3
        text = say("delete", "1", "session_1", "probe_training_sessions/session_1", "--yes")
        assert text == "deleted training_sessions/session_1\ndeleted probe_training_sessions/session_1\n"
        assert self.left(root) == ["training_sessions/session_2"]

    def test_one_that_is_run_spares_them_all(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with sessions.claim(paths.TRAINING, root, {}):
            assert main(["sessions", "delete", "1", "3", "--yes", "--root", str(root)]) == 2
        assert "session_3 is being run by another process" in one_line(capsys)
        assert len(self.left(root)) == 4


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "ecgkit", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("ecgkit ")


def test_export_prints_the_file_last(demo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export-npz", "demo", "--root", str(demo_root)]) == 0
    path = Path(capsys.readouterr().out.strip().splitlines()[-1])
    with np.load(path, allow_pickle=False) as file:
        assert file["X"].shape[1:] == (1000, 12)
    path.unlink()


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("ecgkit")
    result = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("ecgkit ")


def test_arguments_of_the_chain_are_checked_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="vit"):
        pipeline.run(tmp_path, dataset="demo", models=["resnet1d", "vit"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "demo", "--model", "resnt1d"],
        ["run", "--models", "cnn,resnt1d"],
        ["search", "resnt1d", "--trials", "2", "--dataset", "demo"],
        ["train", "demo", "--model", "cnn", "--epochs", "x"],
        ["evaluate", "nowhere.csv"],
        ["compare", "7", "8"],
        ["explain", "7"],
        ["probe", "7"],
    ],
)
def test_what_is_mistyped_is_refused_before_heavy_packages_are_loaded(arguments: list[str], demo_root: Path) -> None:
    program = (
        "import sys\nfrom ecgkit.cli import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as error:\n    code = error.code\n"
        "heavy = {'torch', 'lightning', 'sklearn', 'matplotlib', 'optuna', 'umap'} & set(sys.modules)\n"
        "sys.exit(f'{code} {sorted(heavy)}')"
    )
    command = [sys.executable, "-c", program, *arguments, "--root", str(demo_root)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1] == "2 []"


@pytest.mark.parametrize("value", ["[" * 100_000, "{" * 5_000, '{"a": NaN}', '{"a":' * 50 + "1" + "}" * 50])
def test_options_that_are_nested_too_deep_are_one_line(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (value, f"blocks={value}"):
        with contextlib.suppress(SystemExit):
            assert main(["train", "demo", "--model", "cnn", "--model-options", option, "--root", str(tmp_path)]) == 2
        assert len(one_line(capsys)) < 2_000
