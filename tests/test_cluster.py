"""A real Dask cluster: scheduler and workers are processes, started as a user starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import psutil
import pytest
from slow_source import Slow

from ecgkit.cli import main
from ecgkit.cluster import Needs, versions, workers
from ecgkit.datasets import build_dataset
from ecgkit.errors import EcgkitError
from ecgkit.readers.saving import save_ecg
from ecgkit.sources.demo import Demo

DASK = [sys.executable, "-m", "dask"]
PACKAGE = Path(__file__).resolve().parents[1]
WORKER = ["worker", "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]


def start(folder: Path, name: str, *arguments: str, path: str = "") -> subprocess.Popen[bytes]:
    """Start a process of Dask; ``path`` comes first among the folders from which it imports."""
    python_path = os.pathsep.join(filter(None, [path, str(PACKAGE), str(PACKAGE / "tests")]))
    settings = {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([*DASK, *arguments], env=os.environ | settings, stdout=log, stderr=log)


def start_scheduler(folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a scheduler, and return its address."""
    file = folder / "scheduler.json"
    process = start(
        folder, "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(file),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (file.is_file() and file.read_text().strip().endswith("}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return json.loads(file.read_text())["address"], process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, and wait for it."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for one in [*children, process]:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address of a scheduler with two workers, and the process that started these."""
    folder = tmp_path_factory.mktemp("cluster")
    address, scheduler = start_scheduler(folder)
    started = start(folder, "workers", *WORKER, address, "--nworkers", "2")
    yield address, started
    stop(started)
    stop(scheduler)


def work_for(seconds: float, pool: Executor) -> None:
    """Use all workers for some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        list(pool.map(abs, range(30)))


def lose(address: str, scheduler: subprocess.Popen[bytes]) -> None:
    """Kill the scheduler during a call."""
    with workers(address) as pool:
        assert pool is not None
        future = pool.submit(time.sleep, 60)
        stop(scheduler)
        future.result()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of a dataset's files, without the record of time stamps."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".signals.json"}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_dataset_is_the_same_after_a_worker_is_killed(
    tmp_path: Path, cluster: tuple[str, subprocess.Popen[bytes]]
) -> None:
    address, started = cluster
    build_dataset(Slow(), tmp_path / "here" / "slow", jobs=1, progress=False)
    folder = tmp_path / "there" / "slow"
    killed: list[int] = []
    with workers(address) as pool:
        assert pool is not None
        pids = {pool.submit(os.getpid).result() for _ in range(20)}
        before = [process.pid for process in psutil.Process(started.pid).children() if process.pid in pids]

        class Watched(type(pool)):  # type: ignore[misc]
            """Kills a worker after the third part of the work has been submitted."""

            def submit(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
                future = super().submit(*arguments, **keywords)
                self.n = getattr(self, "n", 0) + 1
                if self.n == 3:
                    os.kill(before[0], signal.SIGKILL)
                    killed.append(before[0])
                return future

        build_dataset(Slow(), folder, executor=Watched(pool.executor, pool.needs), progress=False)
    assert killed
    assert files_of(folder) == files_of(tmp_path / "here" / "slow")


@pytest.mark.slow
def test_a_dataset_and_predictions_from_the_command_line(
    tmp_path: Path, cluster: tuple[str, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = cluster
    demo = Demo(n_records=50)
    (tmp_path / "ecgs").mkdir()
    for record_id in demo.records["record_id"][:5]:
        save_ecg(demo.read(record_id), tmp_path / "ecgs" / f"{record_id}.csv")
    monkeypatch.chdir(tmp_path)
    for name, added in {"here": [], "there": ["--scheduler", address]}.items():
        assert main(["predict", "ecgs", "--to", f"{name}.csv", *added]) == 0
    assert Path("here.csv").read_bytes() == Path("there.csv").read_bytes()
    assert main(["preprocess", "demo", "--root", ".", "--source-options", "n_records=50", "--scheduler", address]) == 0
    assert (tmp_path / "processed_datasets" / "demo" / "DONE").is_file()


@pytest.mark.slow
def test_a_sweep_is_the_same_after_a_worker_is_killed(
    tmp_path: Path, demo_root: Path, cluster: tuple[str, subprocess.Popen[bytes]]
) -> None:
    address, started = cluster
    text = 'dataset = "demo"\nmodel = "resnet1d"\nepochs = 3\n[model_options]\nwidths = [8, 8]\nblocks = 1\n'
    (tmp_path / "seeds.toml").write_text(text + "[grid]\nseed = [0, 1]\n")
    command = [sys.executable, "-m", "ecgkit", "sweep", str(tmp_path / "seeds.toml"), "--root"]
    settings = os.environ | {"PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    sessions = {}
    for name, added in {"here": [], "there": ["--scheduler", address]}.items():
        shutil.copytree(demo_root / "processed_datasets", tmp_path / name / "processed_datasets")
        sessions[name] = tmp_path / name / "training_sessions"
        with subprocess.Popen([*command, str(tmp_path / name), *added], env=settings) as sweep:
            while added and sweep.poll() is None and not (sessions[name] / "session_1" / "weights/last.ckpt").is_file():
                time.sleep(0.1)
            with_kernel = [one for one in psutil.Process(started.pid).children() if one.children()]
            if added:
                with_kernel[0].kill()
        assert sweep.returncode == 0
    by_seed = [
        {json.loads((path / "config.json").read_text())["seed"]: path for path in folder.iterdir() if path.is_dir()}
        for folder in sessions.values()
    ]
    for seed in (0, 1):
        for file in ("metrics.json", "predictions.parquet", "weights/best.safetensors"):
            here, there = ((found[seed] / file).read_bytes() for found in by_seed)
            assert here == there


def test_a_worker_of_another_version_is_refused(tmp_path: Path, cluster: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, _ = cluster
    (tmp_path / "numpy-1.0.dist-info").mkdir()
    (tmp_path / "numpy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    with workers(address) as pool:
        assert pool is not None
        late = start(tmp_path, "late", *WORKER, address, path=str(tmp_path))
        try:
            with pytest.raises(EcgkitError, match=r"numpy 1\.0"):  # a worker that joins later
                work_for(60, pool)
            with pytest.raises(EcgkitError, match=r"numpy 1\.0"), workers(address):
                pass
        finally:
            stop(late)


@pytest.mark.parametrize(("name", "value"), [("Python", "3.9.1"), ("torch", "1.0"), ("code of ecgkit", "0123")])
def test_what_determines_results_is_compared(name: str, value: str) -> None:
    Needs(versions(), ()).check()
    with pytest.raises(EcgkitError, match=f"not {value}"):
        Needs(versions() | {name: value}, ()).check()


def test_workers_that_do_not_see_a_folder_are_refused(
    tmp_path: Path, cluster: tuple[str, subprocess.Popen[bytes]]
) -> None:
    folder = tmp_path / "only_here"
    with pytest.raises(EcgkitError, match="only_here"):
        build_dataset(Slow(folder), tmp_path / "slow", scheduler=cluster[0], progress=False)


def test_a_scheduler_that_is_lost_is_one_error(tmp_path: Path) -> None:
    address, scheduler = start_scheduler(tmp_path)
    started = start(tmp_path, "workers", *WORKER, address)
    try:
        with pytest.raises(EcgkitError, match=address):
            lose(address, scheduler)
    finally:
        stop(started)
        stop(scheduler)


class TestRefusals:
    """One line, soon, and nothing is left behind."""

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "http://127.0.0.1:80"])
    def test_no_scheduler(self, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        begun = time.monotonic()
        assert main(["preprocess", "demo", "--root", str(tmp_path), "--scheduler", address]) == 2
        assert address in one_line(capsys)
        assert time.monotonic() - begun < 30
        assert not list(tmp_path.iterdir())

    def test_a_worker_instead_of_the_scheduler(self, cluster: tuple[str, subprocess.Popen[bytes]]) -> None:
        with workers(cluster[0]) as pool:
            assert pool is not None
            (worker, *_) = pool.executor._client.scheduler_info()["workers"]  # type: ignore[attr-defined]
        with pytest.raises(EcgkitError, match="worker"), workers(worker):
            pass

    def test_processes_and_a_cluster(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for command in (["preprocess", "demo", "--root", str(tmp_path)], ["predict", str(tmp_path)]):
            assert main([*command, "--jobs", "2", "--scheduler", "tcp://a:1"]) == 2
            assert "tcp://a:1" in one_line(capsys)

    def test_the_extra_that_is_missing_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert main(["preprocess", "demo", "--root", str(tmp_path), "--scheduler", "tcp://a:1"]) == 2
        assert "[cluster]" in one_line(capsys)
