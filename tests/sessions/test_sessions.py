"""Sessions: unique numbers, complete files, resumed by one process at a time."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest

from ecgkit import paths, sessions
from ecgkit.errors import EcgkitError
from ecgkit.io import write_atomically

KIND = paths.TRAINING


def finish(session: sessions.Session, config: dict[str, object] | None = None) -> sessions.Session:
    """Give a session the files of a finished training, and ``DONE``."""
    session.write_json("config.json", config or {"epochs": 1})
    for name in ("weights/best.safetensors", "thresholds.json", "predictions.parquet", "metrics.json"):
        session.write_text(name, "")
    session.mark_done()
    return session


def create_many(root: Path, count: int) -> list[str]:
    return [sessions.create(KIND, root).name for _ in range(count)]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "2_Training.ipynb"
    path.write_text("{}")
    return path


def test_sessions_started_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as executor:
        names = [name for part in executor.map(create_many, [tmp_path] * 3, [20] * 3) for name in part]
    assert sorted(names, key=sessions.session_number) == [f"session_{i}" for i in range(1, 61)]


def test_numbers_are_not_used_again_while_a_later_session_stands(tmp_path: Path) -> None:
    create_many(tmp_path, 3)
    (tmp_path / KIND / "session_2").rmdir()
    (tmp_path / KIND / "notes").mkdir()
    assert sessions.create(KIND, tmp_path).name == "session_4"
    assert [s.name for s in sessions.list_sessions(KIND, tmp_path)] == ["session_1", "session_3", "session_4"]


def test_start_writes_what_a_reader_needs(tmp_path: Path, notebook: Path) -> None:
    first = sessions.start(KIND, tmp_path, {"epochs": 1}, notebook=notebook)
    second = sessions.start(KIND, tmp_path, {"epochs": 2}, notebook=notebook)
    assert json.loads((second.path / "config.json").read_text()) == {"epochs": 2}
    assert "epochs: 1 -> 2" in (second.path / "notes.txt").read_text()
    assert "first session" in (first.path / "notes.txt").read_text()
    assert (second.path / notebook.name).is_file()
    environment = second.read_json("environment.json")
    assert environment["packages"]["numpy"]
    assert environment["cpu_count"] >= 1
    assert not second.is_done
    assert second.close() == f"{second.path}: done"
    assert second.is_done


def test_what_a_session_was_begun_with_is_not_forgotten(tmp_path: Path, notebook: Path) -> None:
    session = sessions.start(KIND, tmp_path, {}, notebook=notebook)
    now = session.read_json("environment.json")
    assert "begun_with" not in now
    session.write_json("environment.json", now | {"threads": 7, "begun_with": {"processor": "Z80"}})
    again = sessions.start(KIND, tmp_path, {}, notebook=notebook, session=session.name)
    assert again.read_json("environment.json") == now | {"begun_with": {"threads": 7, "processor": "Z80"}}


def test_sessions_behind_a_link_and_under_a_relative_root_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / KIND).symlink_to(disk)
    made = sessions.create(KIND, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    for root in (tmp_path / "root", Path()):
        for name in ("1", "session_1", f"{KIND}/session_1", made.path, disk / "session_1"):
            found = sessions.open_session(name, KIND, root)
            assert found.path == tmp_path / "root" / KIND / "session_1"
            assert found.kind == KIND


def test_notes_of_the_user_survive_a_resume(tmp_path: Path, notebook: Path) -> None:
    begun = sessions.start(KIND, tmp_path, {"epochs": 1}, notebook=notebook)
    (begun.path / "notes.txt").write_text("mine\n")
    again = sessions.start(KIND, tmp_path, {"epochs": 1}, notebook=notebook, session=begun.name)
    assert (again.path / "notes.txt").read_text() == "mine\n"


def test_a_session_is_not_begun_with_another_configuration(tmp_path: Path, notebook: Path) -> None:
    begun = sessions.start(KIND, tmp_path, {"epochs": 1, "seed": 0}, notebook=notebook)
    with pytest.raises(EcgkitError, match="another configuration.*epochs: 1 -> 2"):
        sessions.start(KIND, tmp_path, {"epochs": 2, "seed": 0}, notebook=notebook, session=begun.name)
    begun.close()
    with pytest.raises(EcgkitError, match="is finished"):
        sessions.start(KIND, tmp_path, {"epochs": 1, "seed": 0}, notebook=notebook, session=begun.name)


def test_claim_goes_on_with_what_was_cut_off_and_leaves_running_sessions_alone(tmp_path: Path, notebook: Path) -> None:
    config = {"epochs": 1}
    with sessions.claim(KIND, tmp_path, config) as running:
        assert running.config == config
        with sessions.claim(KIND, tmp_path, config) as other:  # the first is at work
            assert other.name == "session_2"
    with sessions.claim(KIND, tmp_path, config) as again:
        assert again.name == "session_2"
    with sessions.claim(KIND, tmp_path, config, resume=False) as fresh:
        assert fresh.name == "session_3"
    with (
        pytest.raises(EcgkitError, match="no interrupted session"),
        sessions.claim(KIND, tmp_path, {"epochs": 9}, resume=True),
    ):
        pass


def test_finished_sessions_are_found_by_their_configuration(tmp_path: Path, notebook: Path) -> None:
    begun = sessions.start(KIND, tmp_path, {"epochs": 1}, notebook=notebook)
    assert sessions.find_finished(KIND, tmp_path, {"epochs": 1}) is None
    finish(begun)
    assert sessions.find_finished(KIND, tmp_path, {"epochs": 1}) == begun
    assert sessions.find_finished(KIND, tmp_path, {"epochs": 2}) is None


def test_opening_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(EcgkitError, match="no finished session"):
        sessions.open_finished("latest", KIND, tmp_path)
    session = sessions.create(KIND, tmp_path)
    for name in ("session_1", "1", str(session.path)):
        assert sessions.open_session(name, KIND, tmp_path) == session
    elsewhere = sessions.create(paths.PROBES, tmp_path)
    with pytest.raises(EcgkitError, match="no session"):
        sessions.open_session(elsewhere.path, KIND, tmp_path)
    with pytest.raises(EcgkitError, match="no session 'session_7'.*session_1"):
        sessions.open_session("session_7", KIND, tmp_path)
    with pytest.raises(EcgkitError, match="not finished"):
        sessions.open_finished("session_1", KIND, tmp_path)
    session.mark_done()
    with pytest.raises(EcgkitError, match=r"lacks config.json, metrics.json, predictions.parquet, weights/best"):
        sessions.open_finished("latest", KIND, tmp_path)
    finish(session)
    assert sessions.open_finished("latest", KIND, tmp_path) == session


def test_a_finished_session_without_its_files_is_refused_by_their_names(tmp_path: Path) -> None:
    config = {"epochs": 1}
    session = finish(sessions.create(KIND, tmp_path), config)
    assert sessions.find_finished(KIND, tmp_path, config) == session
    for name in ("weights/best.safetensors", "thresholds.json"):
        (session.path / name).unlink()
    with pytest.raises(EcgkitError, match=r"lacks thresholds.json, weights/best.safetensors:"):
        sessions.open_finished("1", KIND, tmp_path)
    assert sessions.find_finished(KIND, tmp_path, config) is None  # it is trained again, not skipped
    (session.path / "DONE").write_text("2026-01-01\n")  # without a list
    with pytest.raises(EcgkitError, match=r"lacks weights/best.safetensors:"):
        sessions.open_finished("1", KIND, tmp_path)


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_session_that_disappears_during_a_run_ends_it(tmp_path: Path, notebook: Path, *, is_moved: bool) -> None:
    with sessions.claim(KIND, tmp_path, {"epochs": 1}) as session:
        if is_moved:
            session.path.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(session.path)
        writes = (
            lambda: session.log("epoch 1"),
            lambda: session.write_json("metrics.json", {}),
            lambda: session.write_text("notes.txt", ""),
            lambda: session.write_table("predictions.parquet", pd.DataFrame({"a": [1]})),
            lambda: session.keep_notebook(notebook),
            lambda: session.folder("age"),
            lambda: sessions.Session(session.path / "age").write_json("metrics.json", {}),
            lambda: write_atomically(session.path / "map.html", b""),
            session.mark_done,
            session.close,
        )
        for write in writes:
            with pytest.raises(EcgkitError, match="session_1 was moved or deleted"):
                write()
        assert not session.path.exists()
        session.path.mkdir()  # another one in its place is not its own
        with pytest.raises(EcgkitError, match="session_1 was moved or deleted"):
            session.mark_done()
        assert not list(session.path.iterdir())


@pytest.mark.parametrize(
    "left", [(), ("notes.txt",), ("notes.txt", "reproduction.json", ".config.json.1.2.ecgkit-tmp")]
)
def test_a_session_that_was_killed_before_its_configuration_is_taken_over(
    left: tuple[str, ...], tmp_path: Path, notebook: Path
) -> None:
    finish(sessions.create(KIND, tmp_path))
    for _ in range(2):
        killed = sessions.create(KIND, tmp_path)
        killed.lock().release()
        for name in left:
            (killed.path / name).write_text('{"reproduces": "session_1"}')
    with (
        sessions.claim(KIND, tmp_path, {"epochs": 2}) as first,
        sessions.claim(KIND, tmp_path, {"epochs": 3}) as second,
    ):
        assert (first.name, second.name) == ("session_2", "session_3")
        assert sessions.original_of(first) is None
    third = sessions.start(KIND, tmp_path, {"epochs": 4}, notebook=notebook)
    assert third.name == "session_4"


def test_a_folder_with_anything_else_in_it_is_not_taken_over(tmp_path: Path) -> None:
    (sessions.create(KIND, tmp_path).path / "thesis.tex").write_text("years of work")
    running = sessions.create(KIND, tmp_path)
    lock = running.lock()
    with sessions.claim(KIND, tmp_path, {"epochs": 1}) as session:
        assert session.name == "session_3"
    lock.release()


def test_a_lock_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    session = sessions.create(KIND, tmp_path)
    lock = session.lock()
    with pytest.raises(EcgkitError, match=r"session_1/\.lock"):
        session.lock()
    lock.release()


def test_an_old_lock_file_without_locks_in_the_file_system_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    session = sessions.create(KIND, tmp_path)
    (session.path / ".lock").write_text("an old one")
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(EcgkitError, match=r"remove .*session_1/\.lock"):
        session.lock()


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 100_000, '{"a": ' * 5000 + "1" + "}" * 5000, "\0", "null"])
def test_a_bad_configuration_spoils_no_other_session(content: str, tmp_path: Path) -> None:
    bad, good = sessions.create(KIND, tmp_path), sessions.create(KIND, tmp_path)
    for name in ("config.json", "reproduction.json"):
        (bad.path / name).write_text(content)
    good.write_json("config.json", {"epochs": 1})
    assert sessions.read_config(bad) == {}
    assert sessions.original_of(bad) is None
    assert sessions.matching(KIND, tmp_path, {"epochs": 1}) == [good]
    with sessions.claim(KIND, tmp_path, {"epochs": 1}) as session:
        assert session == good
    with pytest.raises(EcgkitError, match="session_1"):
        bad.read_json("config.json")


def test_a_training_is_compared_with_a_training_and_an_ensemble_with_an_ensemble(tmp_path: Path) -> None:
    for config in ({"model": "cnn", "epochs": 1}, {"model": "ensemble", "method": "mean"}):
        sessions.create(KIND, tmp_path).write_json("config.json", config)
    new = sessions.create(KIND, tmp_path)
    assert "Compared with session_1:\nepochs: 1 -> 2" in sessions.notes(new, tmp_path, {"model": "cnn", "epochs": 2})
    other = sessions.notes(new, tmp_path, {"model": "ensemble", "method": "stacking"})
    assert "Compared with session_2:\nmethod: mean -> stacking" in other


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    session = sessions.Session(tmp_path)
    session.write_json("metrics.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        session.write_json("metrics.json", {"a": float("nan")})
    assert session.read_json("metrics.json") == {"a": 1}
    table = pd.DataFrame({"record_id": [1, 2]})
    session.write_table("predictions.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "predictions.parquet"), table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "predictions.parquet"]
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(EcgkitError, match="metrics.json cannot be read"):
        session.read_json("metrics.json")


def test_under_the_runner_the_notebook_leaves_done_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: Path
) -> None:
    prepared = sessions.create(KIND, tmp_path)
    monkeypatch.setenv(sessions.SESSION_VARIABLE, str(prepared.path))
    begun = sessions.start(KIND, tmp_path, {}, notebook=notebook)
    assert begun == prepared
    begun.close()
    assert not begun.is_done


def test_a_training_does_not_take_up_a_reproduction(tmp_path: Path, notebook: Path) -> None:
    config = {"epochs": 1, "model_options": {"width": 8}}
    original = sessions.start(KIND, tmp_path, config, notebook=notebook)
    finish(original, config)
    with sessions.claim(KIND, tmp_path, config, original="session_1") as again:
        pass
    assert (again.name, sessions.original_of(again), sessions.original_of(original)) == ("session_2", "session_1", None)
    with sessions.claim(KIND, tmp_path, config) as training:
        assert training.name == "session_3"
    with sessions.claim(KIND, tmp_path, config, original="session_1") as gone_on:
        assert gone_on == again
    again.mark_done()
    assert sessions.find_finished(KIND, tmp_path, config) == original
    assert sessions.reproductions_of(original, tmp_path) == [again]


def test_the_notes_of_a_reproduction_speak_of_its_original(tmp_path: Path) -> None:
    for epochs in (1, 2):
        sessions.create(KIND, tmp_path).write_json("config.json", {"epochs": epochs})
    again = sessions.create(KIND, tmp_path)
    again.write_json("reproduction.json", {"reproduces": "session_1"})
    text = sessions.notes(again, tmp_path, {"epochs": 1})
    assert "reproduction of session_1" in text
    assert "Compared with session_1:\nnothing changed" in text


def test_differences_reach_into_nested_options() -> None:
    before = {"epochs": 1, "model_options": {"width": 8, "depth": 2}, "seed": 0}
    after = {"epochs": 1, "model_options": {"width": 16, "depth": 2}, "metadata": False}
    expected = {"metadata": (None, False), "model_options.width": (8, 16), "seed": (0, None)}
    assert sessions.differences(before, after) == expected
    assert sessions.describe_differences(before, after)[1] == "model_options.width: 8 -> 16"
    assert sessions.differences(before, before) == {}
    without, with_faults = {"init": "", "patience": 0}, {"init": "x", "robustness": {"hum": 0.1}}
    expected_lines = ["init: none -> x", "patience: 0 -> none", "robustness.hum: none -> 0.1"]
    assert sessions.describe_differences(without, with_faults) == expected_lines


def test_either_kind_is_found_by_the_name_that_lists_print(tmp_path: Path) -> None:
    training, probe = (sessions.create(kind, tmp_path) for kind in (KIND, paths.PROBES))
    for name in ("1", "session_1", training.label, str(training.path)):
        assert sessions.find(name, tmp_path) == training
    for name in (probe.label, str(probe.path)):
        assert sessions.find(name, tmp_path) == probe
    assert sessions.find("1", tmp_path, paths.PROBES) == probe
    assert sessions.open_session(training.label, KIND, tmp_path) == training
    finish(training)
    assert sessions.find("latest", tmp_path) == training
    with pytest.raises(EcgkitError, match="no finished session in .*probe_training_sessions"):
        sessions.find("latest", tmp_path, paths.PROBES)
    with pytest.raises(EcgkitError, match="no session 'probe_training_sessions/session_1'"):
        sessions.find(probe.label, tmp_path, KIND)


def make_probed(root: Path, *weights: bytes) -> sessions.Session:
    """Make a training session, and a probe of a training of its name for each content of the weights' file."""
    training = sessions.create(KIND, root)
    training.folder("weights")
    (training.path / "weights" / "best.safetensors").write_bytes(weights[0])
    for content in weights:
        recorded = {"training_session": training.name, "weights_sha256": hashlib.sha256(content).hexdigest()}
        sessions.create(paths.PROBES, root).write_json("config.json", recorded)
    return training


def test_probes_belong_to_the_weights_not_to_the_number(tmp_path: Path) -> None:
    training = make_probed(tmp_path, b"these", b"those of a session that was deleted")
    assert [probe.name for probe in sessions.probes_of(training, tmp_path)] == ["session_1"]
    assert sessions.probes_of(sessions.create(KIND, tmp_path), tmp_path) == []


def test_deleting_takes_all_of_one_session_and_nothing_else(tmp_path: Path) -> None:
    training, other = make_probed(tmp_path, b"these"), sessions.create(KIND, tmp_path)
    training.path.with_name("session_1.failed.ipynb").write_text("{}")
    leftover = training.path.with_name(".session_7.deleted")
    leftover.mkdir()
    sessions.delete(training)
    assert [path.name for path in (tmp_path / KIND).iterdir()] == [other.name]
    assert len(sessions.list_sessions(paths.PROBES, tmp_path)) == 1


def test_a_session_is_gone_at_once_however_long_its_files_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_probed(tmp_path, b"these")

    def cut_off(path: Path, **_: object) -> None:
        assert not session.path.exists()
        assert (path / "weights" / "best.safetensors").is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cut_off)
        with pytest.raises(KeyboardInterrupt):
            sessions.delete(session)
    assert sessions.list_sessions(KIND, tmp_path) == []
    sessions.delete(sessions.create(KIND, tmp_path))  # clears away what the other left
    assert list((tmp_path / KIND).iterdir()) == []


def test_a_running_session_is_not_deleted(tmp_path: Path) -> None:
    session = sessions.create(KIND, tmp_path)
    assert not session.is_running
    assert list(session.path.iterdir()) == []  # asking leaves nothing behind
    with sessions.claim(KIND, tmp_path, {}) as running:
        assert running == session
        assert session.is_running
        with pytest.raises(EcgkitError, match="being run by another process: wait for it, then delete it"):
            sessions.delete(session)
    assert session.path.is_dir()
    assert not session.is_running


def test_an_environment_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    session = sessions.create(KIND, tmp_path)
    assert sessions.read_environment(session) == {}
    session.write_json("environment.json", sessions.environment())
    facts = sessions.read_environment(session)
    assert {"processor", "threads", "cpu_capability"} <= facts.keys()
