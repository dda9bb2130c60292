"""Downloading PTB-XL from a server that misbehaves, from folders and from a zip file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest_ptbxl import make_ptbxl, publish
from file_server import FileServer
from filelock import FileLock

from ecgkit.datasets import build_dataset
from ecgkit.errors import EcgkitError
from ecgkit.sources.ptbxl import download as module
from ecgkit.sources.ptbxl.download import Downloaded, download
from ecgkit.sources.ptbxl.source import PtbXl

N_RECORDS = 30
N_FILES = 2 * N_RECORDS + 3
RECORD = "records100/00000/00007_lr.dat"
SERVER = Path(__file__).parents[1] / "file_server.py"
TESTS_RETRY = module.RETRY.new(backoff_factor=0.01, backoff_jitter=0.01, backoff_max=0.05)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", TESTS_RETRY)
    monkeypatch.setattr(module, "TIMEOUT", 1)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small PTB-XL as PhysioNet publishes it."""
    return publish(make_ptbxl(tmp_path_factory.mktemp("published"), N_RECORDS, rates=(100, 500)))


@pytest.fixture
def server(published: Path) -> Iterator[FileServer]:
    with FileServer(published, prefix="/files/ptb-xl/1.0.3/") as running:
        yield running


def get(folder: Path, server: FileServer | str, **options: object) -> Downloaded:
    mirror = server if isinstance(server, str) else server.url
    return download(folder, **{"mirror": mirror, "progress": False, **options})


def refusal(folder: Path, server: FileServer | str, **options: object) -> str:
    with pytest.raises(EcgkitError) as error_info:
        get(folder, server, **options)
    assert "\n" not in str(error_info.value)
    return str(error_info.value)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def expected(published: Path, rates: tuple[int, ...] = (100,)) -> dict[str, bytes]:
    return {
        name: data
        for name, data in contents(published).items()
        if not name.startswith("records") or name.startswith(tuple(f"records{rate}/" for rate in rates))
    }


def assert_same(folder: Path, published: Path, rates: tuple[int, ...] = (100,)) -> None:
    found = contents(folder)
    found.pop("ecgkit_manifest.json")
    assert found == expected(published, rates)


def test_a_good_server_gives_the_same_bytes(tmp_path: Path, published: Path, server: FileServer) -> None:
    done = get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)
    assert done.fetched_bytes == sum(map(len, expected(published).values()))
    assert (done.n_files, done.n_kept) == (N_FILES, 0)
    assert set(server.counts().values()) == {1}
    assert {agent.split("/")[0] for agent in server.agents} == {"ecgkit"}


def test_connections_are_few_and_reused(tmp_path: Path, server: FileServer) -> None:
    server.delay = 0.02
    get(tmp_path / "p", server, rates=(100, 500))
    assert 1 < server.most_connections <= 8
    assert server.all_connections <= 10 < len(server.requests)


def test_the_tables_come_before_the_records(tmp_path: Path, server: FileServer) -> None:
    get(tmp_path / "p", server)
    first_record = next(i for i, path in enumerate(server.requests) if path.startswith("records"))
    assert {"ptbxl_database.csv", "scp_statements.csv"} < set(server.requests[:first_record])


FAULTS = ["cut", "drop", "500", "503:0", "429:0", "408", "wrong", "short", "html", "redirect", "hang", "chunked:1"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_failure_is_repeated(fault: str, tmp_path: Path, published: Path, server: FileServer) -> None:
    server.faults = {RECORD: [fault], "ptbxl_database.csv": [fault]}
    get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)
    assert server.counts()[RECORD] == 2
    assert server.counts()["ptbxl_database.csv"] == 2


@pytest.mark.parametrize("fault", ["cut", "500", "hang", "redirect"])
def test_a_failure_of_the_list_of_checksums_is_repeated(
    fault: str, tmp_path: Path, published: Path, server: FileServer
) -> None:
    server.faults = {"SHA256SUMS.txt": [fault]}
    get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)


def test_a_chunked_response_is_read_whole(tmp_path: Path, published: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["chunked:2"]}
    get(tmp_path / "p", server)
    assert server.counts()[RECORD] == 1
    assert_same(tmp_path / "p", published)


def test_a_dripping_response_is_given_up_and_repeated(
    tmp_path: Path, published: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_SECONDS", 0.3)
    server.faults = {RECORD: ["drip"]}
    get(tmp_path / "p", server)
    assert server.counts()[RECORD] == 2
    assert_same(tmp_path / "p", published)


def test_an_endless_response_is_refused(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 20_000)
    assert "20,000 bytes" in refusal(tmp_path / "p", server)


@pytest.mark.parametrize(("fault", "n_requests"), [("500", 8), ("wrong", 3), ("404", 1), ("403", 1), ("401", 1)])
def test_a_file_that_fails_is_named_and_does_not_stop_the_others(
    fault: str, n_requests: int, tmp_path: Path, published: Path, server: FileServer
) -> None:
    server.faults = {RECORD: ["always", fault]}
    message = refusal(tmp_path / "p", server)
    assert server.counts()[RECORD] == n_requests
    assert RECORD in message
    assert ("SHA256SUMS.txt" if fault == "wrong" else fault) in message
    assert "--mirror" in message
    assert expected(published).keys() - contents(tmp_path / "p").keys() == {RECORD}
    server.faults = {}
    before = server.counts()
    get(tmp_path / "p", server)
    assert server.counts() - before == {RECORD: 1, "SHA256SUMS.txt": 1}
    assert_same(tmp_path / "p", published)


def test_a_stalling_server_is_given_up(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    server.faults = {"SHA256SUMS.txt": ["always", "hang"]}
    start = time.monotonic()
    assert "ReadTimeoutError" in refusal(tmp_path / "p", server)
    assert time.monotonic() - start < 5
    assert len(server.requests) == 8


def test_a_mirror_that_says_nothing_at_all_is_given_up(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network drive that hangs, or a server that sends its headers byte by byte."""

    class Silent(module.Mirror):
        def read(self, file: str) -> bytes:
            if file == RECORD:
                silence.wait()
            return super().read(file)

    silence = threading.Event()
    monkeypatch.setattr(module, "Mirror", Silent)
    monkeypatch.setattr(module, "NOTE_SECONDS", 0.1)
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.5)
    start = time.monotonic()
    assert "nothing from" in refusal(tmp_path / "p", published.as_uri())
    silence.set()
    assert time.monotonic() - start < 10


def test_large_answers_come_one_at_a_time(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that false tables of the largest size allowed do not fill the memory together."""
    reading, most = [], []

    class Counting(module.Mirror):
        def read(self, file: str) -> bytes:
            if not file.startswith("records"):
                reading.append(file)
                most.append(len(reading))
                time.sleep(0.05)
                reading.remove(file)
            return super().read(file)

    monkeypatch.setattr(module, "Mirror", Counting)
    get(tmp_path / "p", published.as_uri())
    assert (len(most), max(most)) == (4, 1)


def test_many_failures_end_the_download(tmp_path: Path, server: FileServer) -> None:
    server.faults = {f"records500/00000/{i:05d}_hr.dat": ["always", "404"] for i in range(1, N_RECORDS + 1)}
    refusal(tmp_path / "p", server, rates=(500,))
    assert 8 <= sum(path.endswith("_hr.dat") for path in server.requests) < N_RECORDS


@pytest.mark.parametrize("fault", ["429:1", "503:1", "date:2"])
def test_retry_after_is_respected(fault: str, tmp_path: Path, server: FileServer) -> None:
    server.faults = {RECORD: [fault]}
    get(tmp_path / "p", server)
    first, second = server.times[RECORD]
    assert second - first >= 0.95


def test_retry_after_has_a_limit(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < module.RETRY.retry_after_max <= 120
    monkeypatch.setattr(module, "RETRY", TESTS_RETRY.new(retry_after_max=1))
    server.faults = {"SHA256SUMS.txt": ["429:7200"]}
    get(tmp_path / "p", server)
    first, second = server.times["SHA256SUMS.txt"]
    assert 0.95 < second - first < 10


def test_a_second_call_reads_only_the_list_of_checksums(tmp_path: Path, server: FileServer) -> None:
    get(tmp_path / "p", server)
    requests, before = server.counts(), {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dat")}
    assert get(tmp_path / "p", server).n_kept == N_FILES
    assert server.counts() - requests == {"SHA256SUMS.txt": 1}
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dat")}


def test_only_files_that_are_missing_or_damaged_are_read_again(
    tmp_path: Path, published: Path, server: FileServer
) -> None:
    folder = tmp_path / "p"
    get(folder, server)
    (folder / RECORD).write_bytes(b"\0" * 24_000)
    (folder / "records100/00000/00003_lr.hea").write_text("")
    (folder / "records100/00000/00004_lr.hea").unlink()
    assert get(folder, server).n_kept == N_FILES - 3
    assert_same(folder, published)


def test_a_killed_download_is_resumed(tmp_path: Path, published: Path, server: FileServer) -> None:
    server.delay = 0.05
    folder = tmp_path / "p"
    code = "import sys; from ecgkit.sources.ptbxl.download import download; download(sys.argv[1], mirror=sys.argv[2])"
    process = subprocess.Popen([sys.executable, "-c", code, folder, server.url], stderr=subprocess.DEVNULL)
    while sum(path.startswith("records") for path in server.requests) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "records100/00000/.00001_lr.dat.1.2.ecgkit-tmp").write_bytes(b"half")
    there = contents(folder)
    before = server.counts()
    done = get(folder, server)
    assert_same(folder, published)
    assert 0 < done.n_kept < N_FILES
    assert {name for name in server.counts() - before if name in there} <= {"SHA256SUMS.txt"}


@pytest.fixture
def _with_ctrl_c() -> Iterator[None]:
    """Let the processes that a test starts receive Ctrl-C: a shell blocks it for what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_with_ctrl_c")
def test_ctrl_c_ends_the_command_at_once_though_the_server_stalls(tmp_path: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["hang"]}
    command = [Path(sys.executable).with_name("ecgkit"), "download", "ptbxl", "--mirror", server.url]
    process = subprocess.Popen([*command, "--root", tmp_path], stderr=subprocess.PIPE, text=True)
    while RECORD not in server.requests:
        assert process.poll() is None
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=15)  # less than the 20 s that it would wait for the server
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("ecgkit: interrupted")
    assert "Traceback" not in error
    assert time.monotonic() - start < 15
    assert not list(tmp_path.rglob("*.ecgkit-tmp"))


def test_a_server_that_is_restarted(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(port: int) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, SERVER, published, "--port", str(port), "--delay", "0.05"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as output:
            return process, output.readline().strip()

    monkeypatch.setattr(module, "RETRY", TESTS_RETRY.new(backoff_factor=0.2, backoff_max=1))
    running, url = start(0)
    folder, failures = tmp_path / "p", []

    def run() -> None:
        try:
            get(folder, url)
        except EcgkitError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not list(folder.glob("records100/*/*.dat")):
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert thread.is_alive()
    time.sleep(1)
    running, _ = start(int(url.rsplit(":", 1)[1].strip("/")))
    thread.join()
    running.kill()
    running.wait()
    assert failures == []
    assert_same(folder, published)


def test_a_server_that_is_down(tmp_path: Path, server: FileServer) -> None:
    server.__exit__()
    message = refusal(tmp_path / "p", server)
    assert "NewConnectionError" in message
    assert "--mirror" in message
    assert contents(tmp_path / "p") == {}


def test_a_host_without_an_address(tmp_path: Path) -> None:
    assert "nowhere.invalid" in refusal(tmp_path / "p", "http://nowhere.invalid/ptb-xl/")


def test_a_password_in_the_url_is_sent_and_not_shown(tmp_path: Path, server: FileServer) -> None:
    address = server.url.replace("http://", "http://bob:secret@")
    server.faults = {RECORD: ["always", "404"]}
    assert "secret" not in refusal(tmp_path / "p", address)
    server.faults = {}
    get(tmp_path / "p", address)
    assert "secret" not in (tmp_path / "p" / "ecgkit_manifest.json").read_text()
    assert "Basic Ym9iOnNlY3JldA==" in server.authorisations


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("HTTPS_PROXY", "http://no.such.proxy.invalid:80"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:9"),
        ("REQUESTS_CA_BUNDLE", "/no/such/file"),
    ],
)
def test_a_wrong_proxy_or_certificate_is_one_line(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    message = refusal(tmp_path / "p", "https://ecg.example/ptb-xl/")
    assert "ecg.example" in message
    assert any(word in message for word in ("SOCKS", variable, "/no/such/file"))


class TestTwoMirrors:
    """PhysioNet first, its mirror second."""

    @pytest.fixture
    def second(self, published: Path) -> Iterator[FileServer]:
        with FileServer(published, prefix="/ptb-xl/1.0.3/") as running:
            yield running

    @pytest.fixture
    def fetch(self, tmp_path: Path, server: FileServer, second: FileServer, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "MIRRORS", (server.url, second.url))
        return lambda: download(tmp_path / "p", progress=False)

    def test_the_first_alone(self, fetch, second) -> None:
        fetch()
        assert second.requests == []

    @pytest.mark.parametrize("fault", ["404", "wrong", "500", "cut"])
    def test_the_second_gives_what_the_first_does_not(self, fault, fetch, server, second, tmp_path) -> None:
        server.faults = {RECORD: ["always", fault]}
        assert fetch().n_files == N_FILES
        assert second.requests == ["SHA256SUMS.txt", RECORD]
        assert (tmp_path / "p" / RECORD).is_file()

    def test_a_first_that_is_down(self, fetch, server, second, tmp_path, published) -> None:
        server.__exit__()
        fetch()
        assert len(second.requests) == N_FILES + 1
        assert_same(tmp_path / "p", published)

    def test_a_first_that_breaks_down(self, fetch, server, tmp_path, published) -> None:
        server.faults = {name: ["always", "500"] for name in expected(published) if name > RECORD}
        fetch()
        assert_same(tmp_path / "p", published)

    def test_the_default_mirrors(self) -> None:
        assert module.MIRRORS[0] == "https://physionet.org/files/ptb-xl/1.0.3/"
        assert module.MIRRORS[1].startswith("https://physionet-open.s3.amazonaws.com/")


class TestParts:
    """A limited download is a valid smaller dataset, and is described as such."""

    def test_the_first_records_of_the_table(self, tmp_path: Path, server: FileServer) -> None:
        done = get(tmp_path / "p", server, limit=12)
        assert (done.n_records, done.n_table, done.n_files) == ({100: 12}, N_RECORDS, 27)
        assert f"the first 12 records at 100 Hz (of {N_RECORDS})" in str(done)
        source = PtbXl(tmp_path / "p")
        assert source.records["record_id"].astype(int).tolist() == list(range(1, 13))
        assert source.part == {"part": True, "reason": "the first 12 of 30 records"}
        dataset = build_dataset(source, tmp_path / "d", progress=False)
        assert len(dataset) == 12
        assert dataset.manifest["source"]["identity"]["part"] == source.part

    def test_folds_are_kept(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "all", server)
        get(tmp_path / "p", server, limit=12)
        whole, part = PtbXl(tmp_path / "all").records, PtbXl(tmp_path / "p").records
        assert part["fold"].tolist() == whole["fold"].head(12).tolist()

    def test_a_part_grows_and_never_shrinks(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server, limit=12)
        before = server.counts()
        get(tmp_path / "p", server, limit=15)
        assert (server.counts() - before).total() == 6 + 1
        assert len(PtbXl(tmp_path / "p").records) == 15
        assert get(tmp_path / "p", server, limit=5).n_records == {100: 15}
        assert get(tmp_path / "p", server).n_records == {100: N_RECORDS}
        assert get(tmp_path / "p", server, limit=5).n_records == {100: N_RECORDS}

    def test_a_limit_above_the_number_of_records_means_all(self, tmp_path: Path, server: FileServer) -> None:
        assert get(tmp_path / "p", server, limit=1000).n_records == {100: N_RECORDS}

    def test_a_part_stays_valid_while_more_is_downloaded(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server, limit=12)
        server.faults = {RECORD.replace("00007", "00020"): ["always", "404"]}
        refusal(tmp_path / "p", server)
        assert len(PtbXl(tmp_path / "p").records) == 12

    def test_an_unfinished_download_is_not_a_dataset(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {RECORD: ["always", "404"]}
        refusal(tmp_path / "p", server)
        with pytest.raises(EcgkitError, match="ecgkit download ptbxl --rate 100"):
            PtbXl(tmp_path / "p")

    def test_deleted_records_are_not_counted(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server)
        shutil.rmtree(tmp_path / "p" / "records100")
        assert get(tmp_path / "p", server, limit=5).n_records == {100: 5}
        assert len(PtbXl(tmp_path / "p").records) == 5

    def test_each_rate_by_itself(self, tmp_path: Path, published: Path, server: FileServer) -> None:
        get(tmp_path / "p", server)
        server.faults = {"records500/00000/00020_hr.dat": ["always", "404"]}
        refusal(tmp_path / "p", server, rates=(100, 500))
        assert len(PtbXl(tmp_path / "p").records) == N_RECORDS
        assert get(tmp_path / "p", server, rates=(500,), limit=12).n_records == {500: 12}
        assert len(PtbXl(tmp_path / "p", sampling_rate=500).records) == 12
        server.faults = {}
        get(tmp_path / "p", server, rates=(100, 500))
        assert_same(tmp_path / "p", published, (100, 500))

    def test_a_folder_that_was_copied_stays_whole(self, tmp_path: Path, server: FileServer) -> None:
        make_ptbxl(tmp_path / "p", N_RECORDS)
        server.faults = {"records500/00000/00009_hr.dat": ["always", "404"]}
        refusal(tmp_path / "p", server, rates=(500,))
        assert len(PtbXl(tmp_path / "p").records) == N_RECORDS


class TestExistingFiles:
    """Nothing of the user's is lost."""

    @pytest.mark.parametrize("n_records", [N_RECORDS + 1, 10])
    def test_another_table_is_not_replaced(self, n_records: int, tmp_path: Path, server: FileServer) -> None:
        """Another version, or a table that a user has limited to the records of a study."""
        folder = make_ptbxl(tmp_path / "p", n_records)
        before = contents(folder)
        message = refusal(folder, server)
        assert "ptbxl_database.csv" in message
        assert "--root" in message
        assert contents(folder) == before

    def test_a_downloaded_table_that_was_changed_is_not_replaced(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server)
        table = tmp_path / "p" / "ptbxl_database.csv"
        table.write_bytes(changed := table.read_bytes().replace(b"CS-12", b"CS-13"))
        assert "ptbxl_database.csv" in refusal(tmp_path / "p", server)
        assert table.read_bytes() == changed

    def test_a_part_made_by_hand_is_not_changed(self, tmp_path: Path, server: FileServer) -> None:
        folder = make_ptbxl(tmp_path / "p", N_RECORDS)
        (folder / RECORD).unlink()
        (folder / "ecgkit_manifest.json").write_text('{"part": true, "reason": "a lesson"}')
        before = contents(folder)
        assert "by hand" in refusal(folder, server, rates=(500,), limit=5)
        assert contents(folder) == before

    def test_two_downloads_at_once(self, tmp_path: Path, server: FileServer) -> None:
        (tmp_path / "p").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "p")
        with FileLock(tmp_path / ".p.lock"):
            assert "another process" in refusal(tmp_path / "p", server)
            assert "another process" in refusal(tmp_path / "link", server)
        get(tmp_path / "link", server)

    def test_the_disk_space_is_checked_before_the_first_record(
        self, tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Enough for the tables, but not for all records and the reserve of 64 MiB."""
        record = 7 * 4096
        monkeypatch.setattr(module, "MAX_TABLE_BYTES", 20_000)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + N_RECORDS * record - 1))
        assert "GB" in refusal(tmp_path / "p", server)
        assert "ptbxl_database.csv" in server.requests
        assert all(not path.startswith("records") for path in server.requests)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + N_RECORDS * record))
        get(tmp_path / "p", server)

    def test_a_disk_that_fills_up(
        self, tmp_path: Path, published: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_bytes = Path.write_bytes

        def full(path: Path, data: bytes) -> int:
            if "00020_lr" in path.name:
                write_bytes(path, data[:10])
                raise OSError(28, os.strerror(28), str(path))
            return write_bytes(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", full)
            assert "no space left" in refusal(tmp_path / "p", server)
            time.sleep(0.5)
        there = contents(tmp_path / "p")
        assert not [name for name in there if name.endswith("tmp")]
        assert all(expected(published)[name] == data for name, data in there.items() if name.startswith("records"))
        get(tmp_path / "p", server)
        assert_same(tmp_path / "p", published)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path, server: FileServer) -> None:
        (tmp_path / "p").write_text("a file of this name")
        assert str(tmp_path / "p") in refusal(tmp_path / "p", server)


class TestOtherMirrors:
    """A folder, and mirrors that are not PTB-XL."""

    def test_a_folder_with_a_space_in_its_name(self, tmp_path: Path, published: Path) -> None:
        (tmp_path / "my ptb-xl").symlink_to(published)
        get(tmp_path / "p", (tmp_path / "my ptb-xl").as_uri() + "/")
        assert_same(tmp_path / "p", published)

    def test_a_folder_without_a_file(self, tmp_path: Path) -> None:
        incomplete = publish(make_ptbxl(tmp_path / "incomplete", N_RECORDS))
        (incomplete / RECORD).unlink()
        assert RECORD in refusal(tmp_path / "p", incomplete.as_uri())

    @pytest.mark.parametrize(
        "url",
        [
            "/data/ptb-xl",
            "ftp://physionet.org/ptb-xl/",
            "https://",
            "file:///nowhere/at/all",
            "file://host/folder",
            "file:tests",
            "http://[::1",
            "http://host:99999/",
        ],
    )
    def test_an_invalid_url(self, url: str, tmp_path: Path) -> None:
        assert url in refusal(tmp_path / "p", url)
        assert not (tmp_path / "p").exists()

    def test_a_host_name_that_is_not_valid(self, tmp_path: Path) -> None:
        assert "a..b" in refusal(tmp_path / "p", "http://a..b/")

    def test_a_server_without_ptbxl(self, tmp_path: Path, server: FileServer) -> None:
        assert "404" in refusal(tmp_path / "p", server.url + "elsewhere/")

    def test_a_log_in_page(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {"SHA256SUMS.txt": ["always", "html"]}
        assert "ptbxl_database.csv" in refusal(tmp_path / "p", server)

    def test_a_redirect_to_itself(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {"SHA256SUMS.txt": ["always", "circle"]}
        assert "redirects" in refusal(tmp_path / "p", server)

    def test_another_data_set(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "ptbxl_database.csv").write_text("record,age\n1,50\n")
        (other / "scp_statements.csv").write_text("code\n")
        assert "filename_lr" in refusal(tmp_path / "p", publish(other).as_uri())

    @pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "records100/00000/../../../x", "", "\x1b[2J"])
    def test_names_that_lead_out_of_the_folder(self, name: str, tmp_path: Path) -> None:
        evil = make_ptbxl(tmp_path / "evil", 5)
        table = (evil / "ptbxl_database.csv").read_text()
        (evil / "ptbxl_database.csv").write_text(table.replace("records100/00000/00003_lr", name))
        message = refusal(tmp_path / "in" / "p", publish(evil).as_uri())
        assert f"filename_lr is {repr(name) if name else 'blank'} in row 3" in message

    def test_a_list_that_lacks_a_record(self, tmp_path: Path) -> None:
        mirror = publish(make_ptbxl(tmp_path / "mirror", N_RECORDS))
        complete = (mirror / "SHA256SUMS.txt").read_text()
        (mirror / "SHA256SUMS.txt").write_text("\n".join(x for x in complete.splitlines() if RECORD not in x))
        assert RECORD in refusal(tmp_path / "p", mirror.as_uri())
        (mirror / "SHA256SUMS.txt").write_text(complete)
        assert get(tmp_path / "p", mirror.as_uri()).n_records == {100: N_RECORDS}

    def test_a_list_in_the_binary_form_of_sha256sum(self, tmp_path: Path) -> None:
        folder = publish(make_ptbxl(tmp_path / "b", 5))
        text = (folder / "SHA256SUMS.txt").read_text().replace(" ", " *./").replace("\n", "\r\n")
        (folder / "SHA256SUMS.txt").write_text(text)
        assert get(tmp_path / "p", folder.as_uri()).n_records == {100: 5}


class TestZip:
    """The zip file that PhysioNet publishes has all files in one top folder."""

    @pytest.fixture
    def zipped(self, tmp_path: Path, published: Path) -> Path:
        path = tmp_path / "ptb-xl.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in contents(published).items():
                file.writestr(f"ptb-xl-1.0.3/{name}", data)
        return path

    def test_it_gives_the_same_bytes(self, tmp_path: Path, published: Path, zipped: Path) -> None:
        done = download(tmp_path / "p", zip_file=zipped, rates=(100, 500), progress=False)
        assert_same(tmp_path / "p", published, (100, 500))
        assert done.n_files == N_FILES + 2 * N_RECORDS

    def test_it_is_resumed_and_takes_a_limit(self, tmp_path: Path, zipped: Path) -> None:
        download(tmp_path / "p", zip_file=zipped, limit=12, progress=False)
        assert download(tmp_path / "p", zip_file=zipped, progress=False).n_kept == 27

    def test_a_truncated_zip(self, tmp_path: Path, zipped: Path) -> None:
        zipped.write_bytes(zipped.read_bytes()[:-1000])
        with pytest.raises(EcgkitError, match=r"ptb-xl\.zip"):
            download(tmp_path / "p", zip_file=zipped, progress=False)

    def test_a_damaged_file_in_it(self, tmp_path: Path, zipped: Path) -> None:
        data = bytearray(zipped.read_bytes())
        with zipfile.ZipFile(zipped) as file:
            start = file.getinfo(f"ptb-xl-1.0.3/{RECORD}").header_offset + 100
        data[start : start + 200] = bytes(200)
        zipped.write_bytes(data)
        with pytest.raises(EcgkitError, match=RECORD):
            download(tmp_path / "p", zip_file=zipped, progress=False)

    @pytest.mark.parametrize("name", ["SHA256SUMS.txt", RECORD])
    def test_a_zip_bomb(self, name: str, tmp_path: Path, published: Path) -> None:
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for other, data in contents(published).items():
                file.writestr(other, data if other != name else bytes(2_000_000))
        with pytest.raises(EcgkitError, match="2,000,000 bytes"):
            download(tmp_path / "p", zip_file=tmp_path / "bomb.zip", progress=False)

    def test_a_zip_that_hides_its_size_is_not_unpacked(self, tmp_path: Path, published: Path) -> None:
        """What unpacks to 100 MB is written in the list of files as 1,000 bytes."""
        size = 100_000_000
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for other, data in contents(published).items():
                file.writestr(other, data if other != RECORD else bytes(size))
        hidden = (tmp_path / "bomb.zip").read_bytes().replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
        (tmp_path / "bomb.zip").write_bytes(hidden)
        tracemalloc.start()
        with pytest.raises(EcgkitError, match=RECORD):
            download(tmp_path / "p", zip_file=tmp_path / "bomb.zip", progress=False)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        tracemalloc.stop()

    def test_another_compression_is_refused(self, tmp_path: Path, published: Path) -> None:
        """Such a file may ask for gigabytes as its dictionary."""
        with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as file:
            for name, data in contents(published).items():
                file.writestr(name, data)
        with pytest.raises(EcgkitError, match=r"lzma\.zip"):
            download(tmp_path / "p", zip_file=tmp_path / "lzma.zip", progress=False)

    @pytest.mark.parametrize("name", ["other.zip", "none.zip"])
    def test_no_zip_of_ptbxl(self, name: str, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
            file.writestr("readme", "")
        with pytest.raises(EcgkitError, match=name):
            download(tmp_path / "p", zip_file=tmp_path / name, progress=False)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"limit": -5}, "limit is -5"),
        ({"rates": ()}, "rates"),
        ({"rates": (250,)}, "250"),
        ({"zip_file": "x.zip"}, "zip_file"),
    ],
)
def test_invalid_arguments(options: dict[str, object], named: str, tmp_path: Path, server: FileServer) -> None:
    assert named in refusal(tmp_path / "p", server, **options)
    assert not (tmp_path / "p").exists()


def test_the_summary_and_the_manifest(tmp_path: Path, server: FileServer) -> None:
    text = str(get(tmp_path / "p", server))
    assert text.startswith(f"{N_FILES} files: ")
    assert "all 30 records at 100 Hz" in text
    manifest = json.loads((tmp_path / "p" / "ecgkit_manifest.json").read_text())
    assert manifest["first"] == {"100": N_RECORDS}


def test_progress_and_waiting_are_shown(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTE_SECONDS", 0.3)
    server.faults = {RECORD: ["late:0.7"]}
    get(tmp_path / "p", server, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "60/60" in line and "MB/s" in line]
    assert [line for line in lines if "127.0.0.1" in line]


@pytest.mark.real
def test_the_real_ptbxl_from_a_bad_server(ptbxl_folder: Path, tmp_path: Path) -> None:
    """All records at 100 Hz, of which about one in a hundred files fails first."""
    names = [line.split()[1] for line in (ptbxl_folder / "SHA256SUMS.txt").read_text().splitlines()]
    often = ["cut", "500", "429:1", "wrong", "redirect", "drop", "chunked:1"]
    faults = {name: [often[i // 150 % len(often)]] for i, name in enumerate(names) if i % 150 == 0}
    faults |= {names[1001]: ["hang"], names[2002]: ["hang"], "SHA256SUMS.txt": ["cut", "500"]}
    (tmp_path / "faults.json").write_text(json.dumps(faults))
    command = [sys.executable, SERVER, ptbxl_folder, "--faults", tmp_path / "faults.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            done = download(tmp_path / "p", mirror=server.stdout.readline().strip(), progress=False)
        finally:
            server.kill()
    assert (done.n_files, done.n_records) == (43_601, {100: 21_799})
    wanted = [name for name in names if not name.startswith("records500")]
    assert all((tmp_path / "p" / name).read_bytes() == (ptbxl_folder / name).read_bytes() for name in wanted)
