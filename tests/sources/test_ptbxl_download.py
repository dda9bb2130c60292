"""Downloading PTB-XL from a server that misbehaves, from folders and from a zip."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest_ptbxl import make_ptbxl, publish
from file_server import FileServer
from filelock import FileLock

from ecgkit.datasets.store import build
from ecgkit.errors import EcgkitError
from ecgkit.sources import PtbXl
from ecgkit.sources.ptbxl.download import Downloaded, Patience, download_ptbxl, places, ptbxl, transfer

RESTLESS = Patience(timeout=1, first_wait=0.01, longest_wait=0.05)
N_RECORDS = 30
N_FILES = 2 * N_RECORDS + 3
RECORD = "records100/00000/00007_lr.dat"
SERVER = Path(__file__).parents[1] / "file_server.py"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small PTB-XL as PhysioNet publishes it."""
    return publish(make_ptbxl(tmp_path_factory.mktemp("published"), N_RECORDS, rates=(100, 500)))


@pytest.fixture
def server(published: Path) -> Iterator[FileServer]:
    with FileServer(published, prefix="/files/ptb-xl/1.0.3/") as running:
        yield running


def get(folder: Path, server: FileServer | str, **options: object) -> Downloaded:
    mirror = server if isinstance(server, str) else server.url
    return download_ptbxl(folder, **{"mirror": mirror, "patience": RESTLESS, "progress": False, **options})


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


def test_a_good_server_gives_the_very_bytes(tmp_path: Path, published: Path, server: FileServer) -> None:
    done = get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)
    sizes = [len(data) for name, data in expected(published).items() if name != "SHA256SUMS.txt"]
    assert (done.n_files, done.n_bytes) == (N_FILES, sum(sizes))
    assert done.fetched_bytes == sum(sizes) + len((published / "SHA256SUMS.txt").read_bytes())
    assert (done.n_there, done.n_damaged, done.n_failures) == (0, 0, 0)
    assert set(server.counts().values()) == {1}
    assert {agent.split("/")[0] for agent in server.agents} == {"ecgkit"}


def test_connections_are_few_and_kept_alive(tmp_path: Path, server: FileServer) -> None:
    server.delay = 0.02
    get(tmp_path / "p", server, rates=(100, 500))
    assert 1 < server.most_connections <= 8
    # One for the list, eight for the tables, eight for the records at each rate: not one a file.
    assert server.all_connections <= 25 < len(server.requests)


def test_the_tables_come_before_the_records(tmp_path: Path, server: FileServer) -> None:
    get(tmp_path / "p", server)
    first_record = next(i for i, path in enumerate(server.requests) if path.startswith("records"))
    assert {"ptbxl_database.csv", "scp_statements.csv"} < set(server.requests[:first_record])


FAULTS = ["cut", "drop", "500", "503:0", "429:0", "408", "wrong", "short", "html", "redirect", "hang", "chunked:1"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", [RECORD, "ptbxl_database.csv"])
def test_what_goes_wrong_once_is_mended(
    fault: str, path: str, tmp_path: Path, published: Path, server: FileServer
) -> None:
    server.faults = {path: [fault]}
    done = get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)
    assert server.counts()[path] == 2
    assert done.n_failures == (0 if fault == "redirect" else 1)


@pytest.mark.parametrize("fault", ["cut", "500", "hang", "redirect"])
def test_the_list_of_checksums_survives_too(fault: str, tmp_path: Path, published: Path, server: FileServer) -> None:
    server.faults = {"SHA256SUMS.txt": [fault]}
    get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)


def test_an_answer_in_chunks_is_read_whole(tmp_path: Path, published: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["chunked:2"]}
    assert get(tmp_path / "p", server).n_failures == 0
    assert_same(tmp_path / "p", published)


def test_all_at_once(tmp_path: Path, published: Path, server: FileServer) -> None:
    names = sorted(name for name in expected(published) if name != "SHA256SUMS.txt")
    server.faults = {name: [FAULTS[i % len(FAULTS)], FAULTS[i % 5]] for i, name in enumerate(names)}
    get(tmp_path / "p", server)
    assert_same(tmp_path / "p", published)


def test_a_dripping_answer_is_given_up(
    tmp_path: Path, published: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENT_SECONDS", 0.3)
    server.faults = {RECORD: ["drip"]}
    assert get(tmp_path / "p", server).n_failures == 1
    assert_same(tmp_path / "p", published)


def test_an_endless_answer_is_refused(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LARGEST_FILE", 20_000)
    assert "is no file of this data set" in refusal(tmp_path / "p", server)


def test_eight_attempts_and_then_one_line(tmp_path: Path, published: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["always", "500"]}
    message = refusal(tmp_path / "p", server, patience=Patience(connections=1, first_wait=0.001, longest_wait=0.01))
    assert server.counts()[RECORD] == 8
    assert "status 500" in message
    assert "the same command goes on" in message
    there = contents(tmp_path / "p")
    assert there.items() >= {name: data for name, data in expected(published).items() if name < RECORD}.items()
    assert RECORD not in there


@pytest.mark.parametrize("fault", ["429:1", "503:1", "date:2"])
def test_retry_after_is_honoured_by_all_connections(fault: str, tmp_path: Path, server: FileServer) -> None:
    server.faults = {RECORD: [fault]}
    server.delay = 0.02
    get(tmp_path / "p", server)
    first, second = server.times[RECORD]
    assert second - first >= 0.95
    pause = [moment for moments in server.times.values() for moment in moments if first + 0.1 < moment < first + 0.9]
    assert pause == []


def test_a_server_that_wants_to_be_left_alone_for_hours_is(tmp_path: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["always", "429:7200"]}
    assert "asks to come back in 120 min" in refusal(tmp_path / "p", server)
    assert server.counts()[RECORD] == 1


def test_a_checksum_that_stays_wrong(tmp_path: Path, published: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["always", "wrong"]}
    message = refusal(tmp_path / "p", server)
    assert server.counts()[RECORD] == 3
    assert RECORD in message
    assert "SHA256SUMS.txt" in message
    there = contents(tmp_path / "p")
    assert expected(published).keys() - there.keys() == {RECORD}
    server.faults = {}
    n_before = server.counts()
    get(tmp_path / "p", server)
    assert server.counts() - n_before == {RECORD: 1}
    assert_same(tmp_path / "p", published)


@pytest.mark.parametrize(("status", "words"), [("404", "is not there"), ("403", "forbidden"), ("401", "not open")])
def test_one_file_that_is_refused_does_not_stop_the_others(
    status: str, words: str, tmp_path: Path, published: Path, server: FileServer
) -> None:
    server.faults = {RECORD: ["always", status]}
    message = refusal(tmp_path / "p", server)
    assert server.counts()[RECORD] == 1
    assert words in message
    assert f"status {status}" in message
    assert expected(published).keys() - contents(tmp_path / "p").keys() == {RECORD}


def test_ten_files_that_are_refused_do(tmp_path: Path, server: FileServer) -> None:
    server.faults = {f"records500/00000/{i:05d}_hr.dat": ["always", "404"] for i in range(1, N_RECORDS + 1)}
    message = refusal(tmp_path / "p", server, rates=(500,))
    assert "9 others" in message
    refused = sum(path.endswith("_hr.dat") for path in server.requests)
    assert transfer.MOST_REFUSALS <= refused <= transfer.MOST_REFUSALS + 8


def test_a_second_call_reads_nothing_again(tmp_path: Path, server: FileServer) -> None:
    get(tmp_path / "p", server)
    n_requests, before = len(server.requests), {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dat")}
    done = get(tmp_path / "p", server)
    assert (done.n_there, done.fetched_bytes) == (N_FILES, 0)
    assert len(server.requests) == n_requests
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dat")}


def test_a_mirror_that_was_mended_is_read_anew(tmp_path: Path) -> None:
    mirror = publish(make_ptbxl(tmp_path / "mirror", N_RECORDS))
    good = (mirror / "SHA256SUMS.txt").read_text()
    (mirror / "SHA256SUMS.txt").write_text("\n".join(line for line in good.splitlines() if "00020_lr" not in line))
    with FileServer(mirror) as server:
        get(tmp_path / "p", server, limit=5)
        assert "does not name records100/00000/00020_lr.hea" in refusal(tmp_path / "p", server)
        (mirror / "SHA256SUMS.txt").write_text(good)
        assert get(tmp_path / "p", server).n_records == {100: N_RECORDS}


def test_a_mirror_that_published_a_new_table_is_read_anew(tmp_path: Path) -> None:
    mirror = publish(make_ptbxl(tmp_path / "mirror", N_RECORDS))
    with FileServer(mirror) as server:
        get(tmp_path / "p", server)
        (tmp_path / "p" / "ptbxl_database.csv").unlink()
        table = (mirror / "ptbxl_database.csv").read_bytes()
        (mirror / "ptbxl_database.csv").write_bytes(table.replace(b"CS-12", b"CS-13"))
        publish(mirror)
        get(tmp_path / "p", server)
        assert_same(tmp_path / "p", mirror)


def test_only_what_the_checksum_refuses_is_read_again(tmp_path: Path, published: Path, server: FileServer) -> None:
    folder = tmp_path / "p"
    get(folder, server)
    (folder / RECORD).write_bytes(b"\0" * 24_000)
    (folder / "records100/00000/00003_lr.hea").write_text("")
    (folder / "records100/00000/00004_lr.hea").unlink()
    n_before = server.counts()
    done = get(folder, server)
    assert (done.n_there, done.n_damaged) == (N_FILES - 3, 2)
    assert (server.counts() - n_before).total() == 3
    assert_same(folder, published)


def test_a_killed_download_goes_on(tmp_path: Path, published: Path, server: FileServer) -> None:
    server.delay = 0.05
    folder = tmp_path / "p"
    code = (
        "import sys; from ecgkit.sources.ptbxl.download import download_ptbxl; "
        "download_ptbxl(sys.argv[1], mirror=sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, folder, server.url], stderr=subprocess.DEVNULL)
    while sum(path.startswith("records") for path in server.requests) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "records100/00000/.00001_lr.dat.1.2.ecgkit-tmp").write_bytes(b"half")
    there = contents(folder)
    n_before = server.counts()
    done = get(folder, server)
    assert_same(folder, published)
    assert 0 < done.n_there < N_FILES
    again = {name for name in server.counts() - n_before if name in there}
    assert again == set()


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """Let the processes that a test starts hear Ctrl-C: a shell silences it for what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_ctrl_c")
def test_ctrl_c_ends_it_at_once_though_the_server_hangs(tmp_path: Path, server: FileServer) -> None:
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
    assert time.monotonic() - start < 15


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path, published: Path) -> None:
    def start(port: int) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, SERVER, published, "--port", str(port), "--delay", "0.05"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process.stdout as output:
            return process, output.readline().strip()

    running, url = start(0)
    folder, failures = tmp_path / "p", []

    def download() -> None:
        try:
            get(folder, url, patience=Patience(connections=2, timeout=5, first_wait=0.2, longest_wait=1))
        except EcgkitError as error:
            failures.append(error)

    thread = threading.Thread(target=download)
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


def test_nobody_answers(tmp_path: Path, server: FileServer) -> None:
    server.__exit__()
    message = refusal(tmp_path / "p", server)
    assert "refuses the connection" in message
    assert "--mirror" in message
    assert contents(tmp_path / "p") == {}


def test_one_file_that_fails_for_ever_does_not_stop_the_others(
    tmp_path: Path, published: Path, server: FileServer
) -> None:
    server.delay = 0.05
    server.faults = {RECORD: ["always", "500"]}
    message = refusal(tmp_path / "p", server, patience=Patience(connections=2, first_wait=0.02, longest_wait=0.1))
    assert message.startswith(f"{RECORD}: ")
    assert expected(published).keys() - contents(tmp_path / "p").keys() == {RECORD}


def test_a_password_in_the_address_stays_between_us(tmp_path: Path, server: FileServer) -> None:
    address = server.url.replace("http://", "http://bob:secret@")
    server.faults = {RECORD: ["always", "404"]}
    assert "secret" not in refusal(tmp_path / "p", address)
    server.faults = {}
    get(tmp_path / "p", address)
    assert "secret" not in (tmp_path / "p" / "ecgkit_manifest.json").read_text()
    assert "Basic Ym9iOnNlY3JldA==" in server.authorisations


@pytest.mark.parametrize(
    ("variables", "words", "n_attempts"),
    [
        ({"http_proxy": "http://127.0.0.1:9"}, "the proxy to ecg.example does not answer", 8),
        ({"http_proxy": "http://no.such.proxy.invalid:80"}, "the proxy to ecg.example does not answer", 8),
        ({"REQUESTS_CA_BUNDLE": "/no/such/file"}, "REQUESTS_CA_BUNDLE names no file", 1),
        ({"http_proxy": "socks5://127.0.0.1:9"}, "cannot be used", 1),
    ],
)
def test_what_the_environment_has_wrong_is_named(
    variables: dict[str, str], words: str, n_attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []
    get_file = places.WebPlace.get
    monkeypatch.setattr(places.WebPlace, "get", lambda self, file: asked.append(file) or get_file(self, file))
    scheme = "https" if "REQUESTS_CA_BUNDLE" in variables else "http"
    assert words in refusal(tmp_path / "p", f"{scheme}://ecg.example/ptb-xl/")
    assert len(asked) == n_attempts


def test_a_host_without_an_address(tmp_path: Path) -> None:
    assert "check the network" in refusal(tmp_path / "p", "http://nowhere.invalid/ptb-xl/")


class TestTwoAddresses:
    """PhysioNet first, its mirror second."""

    @pytest.fixture
    def second(self, published: Path) -> Iterator[FileServer]:
        with FileServer(published, prefix="/ptb-xl/1.0.3/") as running:
            yield running

    @pytest.fixture
    def download(self, tmp_path: Path, server: FileServer, second: FileServer, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(ptbxl, "ADDRESSES", (server.url, second.url))
        return lambda: download_ptbxl(tmp_path / "p", patience=RESTLESS, progress=False)

    def test_the_first_serves_alone(self, download, second) -> None:
        download()
        assert second.requests == []

    def test_the_second_has_what_the_first_lacks(self, download, server, second, tmp_path, published) -> None:
        server.faults = {RECORD: ["always", "404"]}
        download()
        assert second.requests == [RECORD]
        assert_same(tmp_path / "p", published)

    def test_the_second_has_the_right_bytes(self, download, server, second, tmp_path, published) -> None:
        server.faults = {RECORD: ["always", "wrong"]}
        download()
        assert second.requests == [RECORD]
        assert_same(tmp_path / "p", published)

    def test_a_first_that_is_down_is_left(self, download, server, second, tmp_path, published) -> None:
        server.__exit__()
        download()
        assert len(second.requests) == N_FILES + 1
        assert_same(tmp_path / "p", published)

    def test_a_first_that_breaks_down_is_left_for_good(self, download, server, tmp_path, published) -> None:
        server.faults = {name: ["always", "500"] for name in expected(published) if name > RECORD}
        download()
        assert_same(tmp_path / "p", published)
        # At most each of the eight connections finds out for itself, eight times.
        assert sum(name > RECORD and name.startswith("records") for name in server.requests) <= 64

    def test_the_shipped_addresses(self) -> None:
        assert ptbxl.ADDRESSES[0] == "https://physionet.org/files/ptb-xl/1.0.3/"
        assert ptbxl.ADDRESSES[1].startswith("https://physionet-open.s3.amazonaws.com/")
        assert Patience() == Patience(connections=8, timeout=20.0, attempts=8, checksum_attempts=3)

    def test_a_first_that_wants_to_be_left_alone_is(self, download, server, second, tmp_path, published) -> None:
        server.faults = {"*": ["always", "429:7200"]}
        download()
        assert_same(tmp_path / "p", published)
        assert len(server.requests) == 1
        assert len(second.requests) == N_FILES + 1

    def test_a_first_that_refuses_everything_is_left(self, download, server, tmp_path, published) -> None:
        server.faults = {name: ["always", "403"] for name in expected(published)}
        download()
        assert_same(tmp_path / "p", published)
        assert len(server.requests) <= transfer.MOST_REFUSALS + 8


class TestParts:
    """A limited download is a valid smaller dataset, and says what it is."""

    def test_the_first_records_of_the_table(self, tmp_path: Path, server: FileServer) -> None:
        done = get(tmp_path / "p", server, limit=12)
        assert (done.n_records, done.n_table, done.n_files) == ({100: 12}, N_RECORDS, 27)
        assert "the first 12 records at 100 Hz (of 30)" in str(done)
        source = PtbXl(tmp_path / "p")
        assert source.records["record_id"].tolist() == list(range(1, 13))
        assert source.part == {"part": True, "reason": "the first 12 of 30 records"}
        assert source.describe().endswith("a part: the first 12 of 30 records")
        dataset = build(source, tmp_path / "d", progress=False)
        assert len(dataset) == 12
        assert dataset.manifest["source"]["identity"]["part"] == source.part

    def test_folds_are_kept(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "all", server)
        get(tmp_path / "p", server, limit=12)
        whole, part = PtbXl(tmp_path / "all").records, PtbXl(tmp_path / "p").records
        assert part["fold"].tolist() == whole["fold"].head(12).tolist()

    def test_a_part_grows_and_never_shrinks(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server, limit=12)
        n_before = server.counts()
        get(tmp_path / "p", server, limit=15)
        assert (server.counts() - n_before).total() == 6
        assert len(PtbXl(tmp_path / "p").records) == 15
        assert get(tmp_path / "p", server, limit=5).n_records == {100: 15}
        assert get(tmp_path / "p", server).n_records == {100: N_RECORDS}
        assert get(tmp_path / "p", server, limit=5).n_records == {100: N_RECORDS}

    def test_more_than_there_is_means_all(self, tmp_path: Path, server: FileServer) -> None:
        assert get(tmp_path / "p", server, limit=1000).n_records == {100: N_RECORDS}

    def test_a_part_stays_what_it_is_while_more_is_on_its_way(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server, limit=12)
        server.faults = {RECORD.replace("00007", "00020"): ["always", "404"]}
        refusal(tmp_path / "p", server)
        assert PtbXl(tmp_path / "p").records["record_id"].tolist() == list(range(1, 13))

    def test_an_unfinished_download_is_no_dataset(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {RECORD: ["always", "404"]}
        refusal(tmp_path / "p", server)
        with pytest.raises(EcgkitError, match="run `ecgkit download ptbxl --rate 100`, which goes on"):
            PtbXl(tmp_path / "p")

    def test_records_that_were_deleted_are_not_counted(self, tmp_path: Path, server: FileServer) -> None:
        get(tmp_path / "p", server)
        shutil.rmtree(tmp_path / "p" / "records100")
        assert get(tmp_path / "p", server, limit=5).n_records == {100: 5}
        assert len(PtbXl(tmp_path / "p").records) == 5

    def test_a_finished_rate_counts_though_the_other_fails(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {"records500/00000/00009_hr.dat": ["always", "404"]}
        refusal(tmp_path / "p", server, rates=(100, 500))
        assert len(PtbXl(tmp_path / "p").records) == N_RECORDS

    def test_each_rate_by_itself(self, tmp_path: Path, published: Path, server: FileServer) -> None:
        get(tmp_path / "p", server)
        done = get(tmp_path / "p", server, rates=(500,), limit=12)
        assert done.n_records == {500: 12}
        assert len(PtbXl(tmp_path / "p").records) == N_RECORDS
        assert len(PtbXl(tmp_path / "p", sampling_rate=500).records) == 12
        get(tmp_path / "p", server, rates=(100, 500))
        assert_same(tmp_path / "p", published, (100, 500))

    def test_a_folder_laid_down_by_hand_stays_whole(self, tmp_path: Path, server: FileServer) -> None:
        make_ptbxl(tmp_path / "p", N_RECORDS)
        server.faults = {"records500/00000/00009_hr.dat": ["always", "404"]}
        refusal(tmp_path / "p", server, rates=(500,))
        assert len(PtbXl(tmp_path / "p").records) == N_RECORDS


class TestWhatIsThereIsSafe:
    """Nothing of the user's is lost."""

    def test_another_table_that_is_whole_is_not_replaced(self, tmp_path: Path, server: FileServer) -> None:
        folder = publish(make_ptbxl(tmp_path / "p", N_RECORDS + 1))
        before = contents(folder)
        message = refusal(folder, server)
        assert "holds another PTB-XL" in message
        assert "--root" in message
        assert contents(folder) == before

    @pytest.mark.parametrize("n_records", [N_RECORDS + 1, 10])
    def test_a_table_that_is_not_ours_is_not_replaced(self, n_records: int, tmp_path: Path, server: FileServer) -> None:
        """Another version, or a table that somebody has cut down to the records of a study."""
        folder = make_ptbxl(tmp_path / "p", n_records)
        before = contents(folder)
        assert "holds another PTB-XL" in refusal(folder, server)
        assert contents(folder) == before

    def test_a_part_made_by_hand_is_not_touched(self, tmp_path: Path, server: FileServer) -> None:
        folder = make_ptbxl(tmp_path / "p", N_RECORDS)
        (folder / RECORD).unlink()
        (folder / "ecgkit_manifest.json").write_text('{"part": true, "reason": "a lesson"}')
        before = contents(folder)
        assert "a part made by hand" in refusal(folder, server, rates=(500,), limit=5)
        assert contents(folder) == before

    @pytest.mark.parametrize("content", [bytes(300_000), b"", b'ecg_id,"filename_lr', b"ecg_id,age\n1,50\n"])
    def test_a_damaged_table_is_replaced_and_kept(
        self, content: bytes, tmp_path: Path, published: Path, server: FileServer
    ) -> None:
        for folder in (tmp_path / "by hand", tmp_path / "by us"):
            if folder.name == "by us":
                get(folder, server)
            folder.mkdir(exist_ok=True)
            (folder / "ptbxl_database.csv").write_bytes(content)
            get(folder, server)
            kept = folder / "ptbxl_database.csv.replaced"
            assert not content or kept.read_bytes() == content
            kept.unlink(missing_ok=True)
            assert_same(folder, published)

    def test_a_table_of_ours_that_was_changed_is_kept(
        self, tmp_path: Path, published: Path, server: FileServer
    ) -> None:
        get(tmp_path / "p", server)
        table = tmp_path / "p" / "ptbxl_database.csv"
        table.write_bytes(mine := table.read_bytes().replace(b"CS-12", b"CS-13"))
        get(tmp_path / "p", server)
        kept = tmp_path / "p" / "ptbxl_database.csv.replaced"
        assert kept.read_bytes() == mine
        kept.unlink()
        assert_same(tmp_path / "p", published)

    def test_two_downloads_at_once(self, tmp_path: Path, server: FileServer) -> None:
        (tmp_path / "p").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "p")
        with FileLock(tmp_path / ".p.lock"):
            assert "another download" in refusal(tmp_path / "p", server)
            assert "another download" in refusal(tmp_path / "link", server)
        get(tmp_path / "link", server)

    def test_a_file_that_comes_too_late_is_not_written(
        self, tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lock may have gone to somebody else by then."""
        monkeypatch.setattr(transfer, "SECONDS_TO_END", 0)
        monkeypatch.setattr(transfer, "MOST_REFUSALS", 1)
        server.faults = {RECORD: ["late:0.5"], "records100/00000/00008_lr.dat": ["always", "404"]}
        refusal(tmp_path / "p", server)
        time.sleep(1)
        assert RECORD in server.requests
        assert not (tmp_path / "p" / RECORD).exists()

    def test_the_room_for_the_records_is_asked_for_before_the_first(
        self, tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Enough for the tables, and for all records but one, beside the reserve of 64 MiB."""
        record = 7 * 4096
        monkeypatch.setattr(ptbxl, "LARGEST_TABLE", 1000)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + N_RECORDS * record - 1))
        assert "make room" in refusal(tmp_path / "p", server)
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
            message = refusal(tmp_path / "p", server)
        assert "no space left" in message
        assert "every file that is complete is kept" in message
        there = contents(tmp_path / "p")
        assert not [name for name in there if name.endswith("tmp")]
        assert all(expected(published)[name] == data for name, data in there.items() if name.startswith("records"))
        get(tmp_path / "p", server)
        assert_same(tmp_path / "p", published)

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path, server: FileServer) -> None:
        (tmp_path / "p").write_text("a file of this name")
        assert "cannot be written" in refusal(tmp_path / "p", server)


class TestOtherPlaces:
    """A folder, the zip, and what is no PTB-XL."""

    def test_a_folder(self, tmp_path: Path, published: Path) -> None:
        get(tmp_path / "p", published.as_uri())
        assert_same(tmp_path / "p", published)

    def test_a_folder_with_a_space_in_its_name(self, tmp_path: Path, published: Path) -> None:
        (tmp_path / "my ptb-xl").symlink_to(published)
        get(tmp_path / "p", (tmp_path / "my ptb-xl").as_uri() + "/")
        assert_same(tmp_path / "p", published)

    def test_a_folder_with_a_hole(self, tmp_path: Path) -> None:
        holed = publish(make_ptbxl(tmp_path / "holed", N_RECORDS))
        (holed / RECORD).unlink()
        assert f"{RECORD} is not there" in refusal(tmp_path / "p", holed.as_uri())

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("/data/ptb-xl", "no address of a mirror"),
            ("ftp://physionet.org/ptb-xl/", "no address of a mirror"),
            ("https://", "no address of a mirror"),
            ("file:///nowhere/at/all", "no folder"),
            ("file://host/folder", "no address of a mirror"),
            ("file:tests", "no address of a mirror"),
            ("http://[::1", "is no address"),
            ("http://host:99999/", "is no address"),
        ],
    )
    def test_what_is_no_address(self, url: str, words: str, tmp_path: Path) -> None:
        assert words in refusal(tmp_path / "p", url)
        assert not (tmp_path / "p").exists()

    def test_a_server_without_ptbxl(self, tmp_path: Path, server: FileServer) -> None:
        message = refusal(tmp_path / "p", server.url + "elsewhere/")
        assert "no PTB-XL there" in message
        assert "status 404" in message

    def test_a_page_that_wants_a_log_in(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {"SHA256SUMS.txt": ["always", "html"]}
        assert "does not name ptbxl_database.csv" in refusal(tmp_path / "p", server)

    def test_a_host_name_that_cannot_be_one(self, tmp_path: Path) -> None:
        assert "cannot be used" in refusal(tmp_path / "p", "http://a..b/")

    @pytest.mark.parametrize("status", ["403", "429:7200"])
    def test_a_server_that_refuses_the_list_may_well_have_ptbxl(
        self, status: str, tmp_path: Path, server: FileServer
    ) -> None:
        server.faults = {"SHA256SUMS.txt": ["always", status]}
        assert "no PTB-XL" not in refusal(tmp_path / "p", server)

    def test_an_address_that_leads_in_circles(self, tmp_path: Path, server: FileServer) -> None:
        server.faults = {"SHA256SUMS.txt": ["always", "circle"]}
        assert "round in circles" in refusal(tmp_path / "p", server)

    def test_another_data_set(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "ptbxl_database.csv").write_text("record,age\n1,50\n")
        (other / "scp_statements.csv").write_text("code\n")
        assert "has no column 'filename_lr'" in refusal(tmp_path / "p", publish(other).as_uri())

    @pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "records100/00000/../../../x", ""])
    def test_names_that_lead_out_of_the_folder(self, name: str, tmp_path: Path) -> None:
        evil = make_ptbxl(tmp_path / "evil", 5)
        table = (evil / "ptbxl_database.csv").read_text()
        (evil / "ptbxl_database.csv").write_text(table.replace("records100/00000/00003_lr", name))
        assert "names a record" in refusal(tmp_path / "in" / "p", publish(evil).as_uri())

    def test_a_list_that_lacks_a_record(self, tmp_path: Path) -> None:
        short = publish(make_ptbxl(tmp_path / "short", N_RECORDS))
        sums = (short / "SHA256SUMS.txt").read_text().splitlines()
        (short / "SHA256SUMS.txt").write_text("\n".join(line for line in sums if RECORD not in line))
        assert f"does not name {RECORD}" in refusal(tmp_path / "p", short.as_uri())

    def test_a_list_as_sha256sum_writes_it(self, tmp_path: Path) -> None:
        folder = publish(make_ptbxl(tmp_path / "b", 5))
        text = (folder / "SHA256SUMS.txt").read_text().replace(" ", " *./").replace("\n", "\r\n")
        (folder / "SHA256SUMS.txt").write_text(text)
        assert get(tmp_path / "p", folder.as_uri()).n_records == {100: 5}


class TestZip:
    """The zip that PhysioNet publishes has all files in one top folder."""

    @pytest.fixture
    def zipped(self, tmp_path: Path, published: Path) -> Path:
        path = tmp_path / "ptb-xl.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in contents(published).items():
                file.writestr(f"ptb-xl-1.0.3/{name}", data)
        return path

    def test_it_gives_the_very_bytes(self, tmp_path: Path, published: Path, zipped: Path) -> None:
        done = download_ptbxl(tmp_path / "p", zip_file=zipped, rates=(100, 500), progress=False)
        assert_same(tmp_path / "p", published, (100, 500))
        assert done.n_files == N_FILES + 2 * N_RECORDS

    def test_it_goes_on_and_takes_a_limit(self, tmp_path: Path, zipped: Path) -> None:
        download_ptbxl(tmp_path / "p", zip_file=zipped, limit=12, progress=False)
        assert download_ptbxl(tmp_path / "p", zip_file=zipped, progress=False).n_there == 27

    def test_a_part_of_it_is_no_zip(self, tmp_path: Path, zipped: Path) -> None:
        zipped.write_bytes(zipped.read_bytes()[:-1000])
        with pytest.raises(EcgkitError, match="cannot be read as a zip .*fetch it again"):
            download_ptbxl(tmp_path / "p", zip_file=zipped, progress=False)

    def test_a_damaged_file_in_it(self, tmp_path: Path, zipped: Path) -> None:
        data = bytearray(zipped.read_bytes())
        with zipfile.ZipFile(zipped) as file:
            start = file.getinfo(f"ptb-xl-1.0.3/{RECORD}").header_offset + 100
        data[start : start + 200] = bytes(200)
        zipped.write_bytes(data)
        with pytest.raises(EcgkitError, match=f"{RECORD} in .* is damaged"):
            download_ptbxl(tmp_path / "p", zip_file=zipped, progress=False)

    def test_another_zip(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
            file.writestr("readme", "")
        with pytest.raises(EcgkitError, match="holds no SHA256SUMS.txt"):
            download_ptbxl(tmp_path / "p", zip_file=tmp_path / "other.zip", progress=False)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(EcgkitError, match="no file .*: give the zip"):
            download_ptbxl(tmp_path / "p", zip_file=tmp_path / "none.zip", progress=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"limit": -5}, "limit is -5"),
        ({"rates": ()}, "no sampling rates"),
        ({"rates": (250,)}, "no sampling rates"),
        ({"zip_file": "x.zip"}, "give one of them"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, object], words: str, tmp_path: Path, server: FileServer) -> None:
    assert words in refusal(tmp_path / "p", server, **options)
    assert not (tmp_path / "p").exists()


def test_the_summary_and_the_manifest_say_what_it_is(tmp_path: Path, server: FileServer) -> None:
    server.faults = {RECORD: ["500"]}
    text = str(get(tmp_path / "p", server))
    assert text.startswith(f"{N_FILES} files, ")
    assert "0 were there already, 1 attempts made again" in text
    assert "all 30 records at 100 Hz" in text
    manifest = json.loads((tmp_path / "p" / "ecgkit_manifest.json").read_text())
    assert manifest["from"] == [server.url]
    assert manifest["first"] == {"100": N_RECORDS}


def test_progress_is_a_line_now_and_then(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = {RECORD: ["500", "500", "500"]}
    get(tmp_path / "p", server, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "60/60" in line and "MB/s" in line]
    assert [line for line in lines if "answers with status 500 (attempt 3 of 8 in 0 s)" in line]
    assert len(lines) == 3


def test_a_long_pause_is_said_at_once(
    tmp_path: Path, server: FileServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LONG_PAUSE", 0.5)
    server.faults = {"SHA256SUMS.txt": ["429:1"]}
    get(tmp_path / "p", server, progress=True)
    assert "status 429 (attempt 2 of 8 in 1 s)" in capsys.readouterr().err


@pytest.mark.real
def test_the_real_ptbxl_from_a_bad_server(ptbxl_folder: Path, tmp_path: Path) -> None:
    """All records at 100 Hz, of which about every hundredth misbehaves."""
    lines = (ptbxl_folder / "SHA256SUMS.txt").read_text().splitlines()
    names = [line.split()[1] for line in lines]
    often = ["cut", "500", "429:1", "wrong", "redirect", "drop", "chunked:1"]
    faults = {name: [often[i // 150 % len(often)]] for i, name in enumerate(names) if i % 150 == 0}
    faults |= {names[1001]: ["hang"], names[2002]: ["hang"], "SHA256SUMS.txt": ["cut", "500"]}
    (tmp_path / "faults.json").write_text(json.dumps(faults))
    command = [sys.executable, SERVER, ptbxl_folder, "--faults", tmp_path / "faults.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            done = download_ptbxl(tmp_path / "p", mirror=server.stdout.readline().strip(), progress=False)
        finally:
            server.kill()
    assert (done.n_files, done.n_records) == (43_601, {100: 21_799})
    assert done.n_failures >= 250
    wanted = [name for name in names if not name.startswith("records500")]
    assert all((tmp_path / "p" / name).read_bytes() == (ptbxl_folder / name).read_bytes() for name in wanted)
