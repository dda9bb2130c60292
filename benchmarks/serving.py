"""Measure the service with h2load (Debian: nghttp2-client), which shares the cores with it.

    python benchmarks/serving.py [--model NAME] [--minutes 5] [--requests 10000] [--streams 50]

One ECG of the demo (10 s at 500 Hz), as JSON and as WFDB. Alone: the 95th percentile of one client that waits for each
answer, its ratio to the same answer in this process from the same bytes, and the processor time of an answer, which
depends little on what else the machine does. Rate: 100 requests per second. Memory: of all processes of the service
together, before and after many requests. Streams: seconds from the last sample of a second to its answer. Overload: as
many requests as 300 connections send, then one more alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from websockets.asyncio.client import connect

from ecgkit.readers import save_ecg
from ecgkit.serving.service.settings import Settings
from ecgkit.serving.service.work import Job, Work, do
from ecgkit.signals.ecg import ECG
from ecgkit.sources.demo import Demo

BOUNDARY = "ecgkit-benchmark"
HEADERS = {"json": "application/json", "wfdb": f"multipart/form-data; boundary={BOUNDARY}"}
IN_PROCESS = 40
LONGEST_RECOVERY = 30


def main() -> None:
    """Measure everything and print one line for each number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet1d")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the constant rate")
    parser.add_argument("--rate", type=int, default=100, help="requests per second")
    parser.add_argument("--requests", type=int, default=10_000, help="between two looks at the memory")
    parser.add_argument("--streams", type=int, default=50)
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed: apt-get install nghttp2-client")
    ecg = Demo(n_records=20, sampling_rate=500, seed=4).read("3")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_bodies(ecg, folder)
        alone_here = in_process(arguments.model, folder, files)
        with service(arguments.model) as (process, address):
            alone(process, address, folder, alone_here)
            constant_rate(address, folder, rate=arguments.rate, seconds=round(60 * arguments.minutes))
            memory(process, address, folder, n_requests=arguments.requests)
            delays = asyncio.run(streams(address.replace("http", "ws"), ecg, arguments.streams))
            show(f"{arguments.streams} streams at 500 Hz: seconds from a sample to its answer", delays)
            overload(address, folder)


def write_bodies(ecg: ECG, folder: Path) -> dict[str, bytes]:
    """Write the two requests as files, and return the files of the WFDB record."""
    save_ecg(ecg, folder / "heart.hea")
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("heart.*"))}
    part = '--{}\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
    form = b"".join(part.format(BOUNDARY, name).encode() + data + b"\r\n" for name, data in files.items())
    (folder / "wfdb").write_bytes(form + f"--{BOUNDARY}--\r\n".encode())
    signal_mv = np.round(ecg.signal.astype(float), 4).tolist()
    (folder / "json").write_text(json.dumps({"signal": signal_mv, "sampling_rate": 500}))
    return files


def in_process(model: str, folder: Path, files: dict[str, bytes]) -> dict[str, float]:
    """Return the 95th percentile in ms of the same answers in this process."""
    work, result = Work(Settings(models=(model,))), {}
    for kind, content in (("json", (folder / "json").read_bytes()), ("wfdb", files)):
        times = []
        for _ in range(IN_PROCESS):
            start = time.perf_counter()
            (answer,) = do(work, [Job("predict", content)])
            assert answer.status == 200  # noqa: S101
            times.append(1000 * (time.perf_counter() - start))
        result[kind] = float(np.percentile(times, 95))
    return result


@contextmanager
def service(model: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the service as a user does."""
    command = [sys.executable, "-m", "ecgkit", "serve", "--port", "0", "--model", model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout  # noqa: S101
            yield process, process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGTERM)


def load(address: str, folder: Path, kind: str, *options: str) -> tuple[Counter[int], np.ndarray]:
    """Run h2load; return how often each status came, and the times of those with 200 in ms."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    command = ["h2load", "--h1", "-t", "1", "-d", str(folder / kind), "-H", f"content-type: {HEADERS[kind]}"]
    subprocess.run(
        [*command, "--log-file", str(log), *options, f"{address}/v1/predict"], check=True, capture_output=True
    )
    rows = np.loadtxt(log, dtype=np.int64, ndmin=2, usecols=(0, 1, 2)).reshape(-1, 3)
    return Counter(rows[:, 1].tolist()), rows[rows[:, 1] == 200, 2] / 1000


def alone(process: subprocess.Popen[str], address: str, folder: Path, here: dict[str, float]) -> None:
    """Measure one client that waits for each answer."""
    for kind in HEADERS:
        load(address, folder, kind, "-c", "1", "-n", "20")
        before = cpu(process.pid)
        _, times = load(address, folder, kind, "-c", "1", "-n", "200")
        print(f"{kind}, alone: {5 * (cpu(process.pid) - before):.1f} ms of processor time per answer")
        show(f"{kind}, alone: ms", times)
        ratio = np.percentile(times, 95) / here[kind]
        print(f"{kind}, alone: 95th percentile as a multiple of that in one process, {here[kind]:.0f} ms: {ratio:.2f}")


def constant_rate(address: str, folder: Path, *, rate: int, seconds: int) -> None:
    """Measure requests at a constant rate."""
    connections = 20
    options = ["-c", str(connections), "--rps", str(rate / connections), "-D", str(seconds)]
    for kind in HEADERS:
        statuses, times = load(address, folder, kind, *options)
        print(f"{kind}, {rate} requests/s for {seconds} s: {dict(statuses)}, {len(times) / seconds:.0f} answers/s")
        show(f"{kind}, {rate} requests per second: ms", times)


def memory(process: subprocess.Popen[str], address: str, folder: Path, *, n_requests: int) -> None:
    """Measure the resident memory before and after many requests."""
    load(address, folder, "json", "-c", "4", "-n", "200")
    before = resident(process.pid)
    statuses, _ = load(address, folder, "json", "-c", "4", "-n", str(n_requests))
    after = resident(process.pid)
    print(
        f"{n_requests} requests {dict(statuses)}: {before:.0f} MiB before, {after:.0f} MiB after, {after - before:+.0f}"
    )


def cpu(pid: int) -> float:
    """Return the seconds of processor time of a process and those that it started."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") + sum(cpu(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, from any of its threads."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def resident(pid: int) -> float:
    """Return the resident memory in MiB of a process and those that it started."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20 + sum(resident(child) for child in children(pid))


async def streams(address: str, ecg: ECG, n_streams: int) -> np.ndarray:
    """Send 15 s over many WebSockets in real time; return how many seconds each answer came after its last sample."""
    signal_mv = np.tile(ecg.signal, 2)[:, :7500]
    delays: list[float] = []

    async def follow(offset: float) -> None:
        await asyncio.sleep(offset)
        async with connect(f"{address}/v1/stream") as socket:
            await socket.send(json.dumps({"type": "start", "sampling_rate": 500}))
            await socket.recv()
            sent: dict[int, float] = {}

            async def listen() -> None:
                for _ in range(3, 16):
                    message = json.loads(await socket.recv())
                    delays.append(time.perf_counter() - sent[message["seconds_since_start"]])

            listening = asyncio.create_task(listen())
            start = time.perf_counter()
            for number in range(75):  # frames of 0.2 s
                await asyncio.sleep(max(0.0, start + 0.2 * number - time.perf_counter()))
                part = signal_mv[:, 100 * number : 100 * (number + 1)]
                if (number + 1) % 5 == 0:
                    sent[(number + 1) // 5] = time.perf_counter()
                await socket.send(number.to_bytes(4, "little") + part.T.astype("<f4").tobytes())
            await listening

    await asyncio.gather(*(follow(number / n_streams) for number in range(n_streams)))
    return np.array(delays)


def overload(address: str, folder: Path) -> None:
    """Send as much as 300 connections can, and measure how long afterwards one request alone is answered again."""
    statuses, times = load(address, folder, "wfdb", "-c", "300", "-D", "20")
    print(f"overload: {dict(statuses)}")
    show("overload: ms of those that were answered", times)
    request = urllib.request.Request(  # noqa: S310 - the address of the service
        f"{address}/v1/predict", (folder / "json").read_bytes(), {"Content-Type": HEADERS["json"]}
    )
    start = time.perf_counter()
    while time.perf_counter() - start < LONGEST_RECOVERY:
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                print(f"after the overload: {answer.status} within {1000 * (time.perf_counter() - start):.0f} ms")
                return
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise
            time.sleep(0.05)
    sys.exit(f"no answer for {LONGEST_RECOVERY} s after the overload")


def show(what: str, values: np.ndarray) -> None:
    """Print the median, the 95th percentile and the largest of some values."""
    median, high = np.percentile(values, [50, 95]) if len(values) else (np.nan, np.nan)
    print(
        f"{what}: median {median:.3g}, 95th percentile {high:.3g}, largest {max(values, default=np.nan):.3g}",
        flush=True,
    )


if __name__ == "__main__":
    main()
