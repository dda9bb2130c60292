"""The table of faults: every step of the chain, disturbed in every way, and then run again.

    python tests/soak_faults.py [--seed 1] [--seconds 180] [--steps train,probe] [--faults kill] [--keep DIR] [--list]

A scenario is a step, a fault, and a moment that the seed decides. After the fault, the same command has to end with
the same bytes as the undisturbed run. The disturbed run itself may end well, by its signal, or with one line that
names the file or the folder; never with a traceback, and never with a process left behind. With ``--seconds``, as many
scenarios as fit are drawn from the table. Processes are known by a mark in their environment: no other is touched.
"""

# ruff: noqa: S311, T201

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MARK = "ECGKIT_SOAK"
LONGEST = 900
"""Seconds after which a run counts as one that hangs."""

TRAINED = (
    "config.json", "weights/best.safetensors", "predictions.parquet", "metrics.json", "thresholds.json",
    "calibration.json", "reference.json", "classification_report.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A command, the folder that it fills, the files in it that are the same in every run, and the step before it."""

    name: str
    command: tuple[str, ...]
    folder: str
    files: tuple[str, ...]
    after: str = "train"
    notebook: bool = True


STEPS = (
    Step(
        "preprocess", ("preprocess", "demo", "--source-options", "n_records=120", "--jobs", "2"),
        "processed_datasets/demo", ("signals.npy", "records.parquet", "labels/*.parquet", "dataset.json"), after="",
    ),
    Step(
        "train", ("train", "demo", "--model", "cnn", "--epochs", "2", "--no-test"),
        "training_sessions/session_1", TRAINED, after="preprocess",
    ),
    Step("evaluate", ("evaluate", "session_1"), "training_sessions/session_1", TRAINED, notebook=False),
    Step(
        "probe", ("probe", "session_1", "--resamples", "10", "--layers", "0", "--repeats", "2"),
        "probe_training_sessions/session_1", ("config.json", "*/metrics.json"), after="evaluate",
    ),
    Step(
        "explain", ("explain", "session_1", "--resamples", "10"), "explanation_sessions/session_1",
        ("config.json", "*.json", "*.parquet"), after="evaluate",
    ),
    Step(
        "second", ("train", "demo", "--model", "cnn", "--epochs", "1", "--seed", "1"),
        "training_sessions/session_2", TRAINED, after="evaluate",
    ),
    Step(
        "compare", ("compare", "--resamples", "10"), "comparison_sessions/session_1",
        ("config.json", "leaderboard.json"), after="second",
    ),
    Step(
        "export-npz", ("export-npz", "demo"), "processed_datasets/demo", ("*.npz",), after="preprocess",
        notebook=False,
    ),
    Step(
        "export-model", ("export-model", "session_1", "--force", "--to", "{root}/model"), "model",
        ("weights/best.safetensors", "*.json"), notebook=False,
    ),
    Step("embed", ("embed", "session_1"), "training_sessions/session_1", ("cache/**/*.npy",), notebook=False),
    Step(
        "predict", ("predict", "{root}/files", "--format", "csv", "--no-measurements", "--to", "{root}/a.csv"),
        ".", ("a.csv",), after="", notebook=False,
    ),
)  # fmt: skip
BY_NAME = {step.name: step for step in STEPS}


@dataclass
class Run:
    """One process of a command, with what it printed."""

    process: subprocess.Popen[bytes]
    mark: str
    output: Path
    moments: list[str] = field(default_factory=list)

    def wait(self) -> tuple[int, str]:
        """Return the exit code and standard error."""
        code = self.process.wait(LONGEST)
        return code, self.output.read_text(errors="replace")

    def others(self) -> dict[int, str]:
        """Return the command lines of the processes that the command started and that are alive."""
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                is_marked = folder.name.isdecimal() and f"{MARK}={self.mark}".encode() in (
                    folder / "environ"
                ).read_bytes().split(b"\0")
                if is_marked and int(folder.name) != self.process.pid:
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found |= {int(folder.name): line} if line else {}
        return found

    def kernels(self) -> list[int]:
        """Return the processes of its notebooks' kernels."""
        return [number for number, line in self.others().items() if "ipykernel_launcher" in line]


def begin(step: Step, root: Path, *, memory: int | None = None, wrapper: tuple[str, ...] = ()) -> Run:
    """Start a step's command."""
    mark, output = uuid.uuid4().hex, Path(tempfile.mkstemp(prefix="ecgkit-soak-")[1])
    arguments = [text.format(root=root) for text in step.command]
    place = os.environ | {MARK: mark, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))) if memory else None
    command = [*wrapper, sys.executable, "-m", "ecgkit.cli", *arguments, "--root", str(root)]
    with output.open("wb") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=place, start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509 - no threads here
        )  # fmt: skip
    return Run(process, mark, output)


def fingerprint(step: Step, root: Path) -> dict[str, str]:
    """Return the checksums of the files that are the same in every run, whatever the root is called."""
    folder = root / step.folder
    files = sorted({path for pattern in step.files for path in folder.glob(pattern) if path.is_file()})
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes().replace(str(root).encode(), b"")).hexdigest()
        for path in files
    }


@dataclass
class Chain:
    """The undisturbed chain: what there is before and after each step, how long it takes, and what it makes."""

    work: Path
    seconds: dict[str, float] = field(default_factory=dict)
    made: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (known := self.work / "undisturbed.json").exists():
            self.seconds, self.made = json.loads(known.read_text())

    def before(self, step: Step) -> Path:
        """Return what there is before a step; the undisturbed steps up to it, and itself, are run when first needed."""
        if not step.after:
            before = self.work / "beginning"
            if not before.exists():
                write_files(before / "files")
        else:
            self.before(BY_NAME[step.after])
            before = self.work / step.after
        if step.name not in self.made:
            shutil.rmtree(self.work / step.name, ignore_errors=True)
            root = shutil.copytree(before, self.work / step.name)
            begun = time.monotonic()
            code, errors = begin(step, root).wait()
            self.seconds[step.name] = time.monotonic() - begun
            self.made[step.name] = fingerprint(step, root)
            if code or not self.made[step.name]:
                raise SystemExit(f"the undisturbed {step.name} failed: {code} {errors}")
            (self.work / "undisturbed.json").write_text(json.dumps([self.seconds, self.made]))
        return before


def write_files(folder: Path) -> None:
    """Write a few ECGs."""
    from ecgkit.readers import save_ecg
    from ecgkit.sources.demo import Demo

    folder.mkdir(parents=True)
    demo = Demo(n_records=30, sampling_rate=500)
    for name in demo.records["record_id"]:
        save_ecg(demo.read(name), folder / f"{name}.hea")


# The faults. Each takes a step, its root, its undisturbed seconds and a random generator, and runs it disturbed.

Fault = Callable[[Step, Path, float, random.Random], Run]


def wait_for_moment(run: Run, step: Step, root: Path, seconds: float, rng: random.Random) -> str:
    """Wait until the folder or the configuration appears, or until a random part of the time has passed."""
    moment = rng.choice(["folder", "configuration", "time", "time", "time"] if step.notebook else ["time"])
    begun, until = time.monotonic(), rng.uniform(0.02, 1.0) * seconds
    folder = root / step.folder
    watched = {"folder": folder, "configuration": folder / "config.json"}.get(moment)
    while run.process.poll() is None and time.monotonic() < begun + (seconds if watched else until):
        if watched and watched.exists():
            break
        time.sleep(0.005)
    run.moments.append(f"{moment}, {time.monotonic() - begun:.1f} s of {seconds:.1f} s")
    return moment


def stop_with(number: signal.Signals, *, group: bool = False) -> Fault:
    """Return the fault of a signal; ``group`` sends it as a terminal does."""

    def fault(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
        run = begin(step, root)
        wait_for_moment(run, step, root, seconds, rng)
        if run.process.poll() is None:
            (os.killpg if group else os.kill)(run.process.pid, number)
        return run

    return fault


def kernel_killed(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Kill the kernel of the notebook."""
    run = begin(step, root)
    wait_for_moment(run, step, root, seconds, rng)
    while run.process.poll() is None and not (found := run.kernels()):
        time.sleep(0.02)
    if run.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[0], signal.SIGKILL)
    return run


def disk_full(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Fill the disk during the run."""
    run = begin(step, root)
    wait_for_moment(run, step, root, seconds, rng)
    with contextlib.suppress(OSError), (root.parent / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(2**16))
            filler.flush()
    run.process.wait(LONGEST)
    (root.parent / "filler").unlink()
    return run


def read_only(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Run on a disk that cannot be written."""
    mounted(root.parent, "remount,ro")
    run = begin(step, root)
    run.process.wait(LONGEST)
    mounted(root.parent, "remount,rw")
    return run


def vanished(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Delete the folder of the output during the run, with everything else of its kind."""
    run = begin(step, root)
    wait_for_moment(run, step, root, seconds, rng)
    if step.folder != ".":
        shutil.rmtree((root / step.folder).parent if step.notebook else root / step.folder, ignore_errors=True)
    return run


def together(number: int) -> Fault:
    """Return the fault of several processes that run the same command at the same time."""

    def fault(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
        runs = [begin(step, root) for _ in range(number)]
        codes = [run.process.wait(LONGEST) for run in runs]
        runs[0].moments.append(f"exit codes {codes}")
        with runs[0].output.open("a") as errors:
            errors.writelines(run.output.read_text() for run in runs[1:])
        return runs[0]

    return fault


def wrong_clock(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Kill a run whose clock is ahead or behind, and give the files times of the past and the future."""
    days = rng.choice([-400, 4000])
    faketime = shutil.which("faketime")
    run = begin(step, root, wrapper=(faketime, "-f", f"{days:+d}d") if faketime else ())
    wait_for_moment(run, step, root, seconds, rng)
    for process in [*run.others(), run.process.pid] if run.process.poll() is None else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for path in root.rglob("*"):
        moment = time.time() + rng.uniform(-4000, 4000) * 86400
        with contextlib.suppress(OSError):
            os.utime(path, (moment, moment))
    return run


def little_memory(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Run with an address space of 0.4 to 3 GiB, as after ``ulimit -v``."""
    memory = int(rng.uniform(0.4, 3) * 2**30)
    run = begin(step, root, memory=memory)
    run.moments.append(f"{memory / 2**30:.2f} GiB")
    return run


def left_locks(step: Step, root: Path, seconds: float, rng: random.Random) -> Run:
    """Kill a run of a file system without locks, where the existence of the lock's file counts."""
    (root.parent / "sitecustomize.py").write_text(WITHOUT_LOCKS)
    run = begin(step, root, wrapper=("env", f"PYTHONPATH={root.parent}:{os.environ.get('PYTHONPATH', '')}"))
    wait_for_moment(run, step, root, seconds, rng)
    for process in [run.process.pid, *run.others()] if run.process.poll() is None else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return run


WITHOUT_LOCKS = """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOSYS, "no locks here")
fcntl.flock = flock
"""

FAULTS: dict[str, Fault] = {
    "kill": stop_with(signal.SIGKILL),
    "terminate": stop_with(signal.SIGTERM),
    "interrupt": stop_with(signal.SIGINT, group=True),
    "kernel_killed": kernel_killed,
    "disk_full": disk_full,
    "read_only": read_only,
    "vanished": vanished,
    "two": together(2),
    "four": together(4),
    "wrong_clock": wrong_clock,
    "little_memory": little_memory,
    "left_locks": left_locks,
}
NEEDS_DISK = ("disk_full", "read_only")
NEEDS_NOTEBOOK = ("kernel_killed",)


def mounted(folder: Path, options: str) -> None:
    """Mount a small disk in memory, or change it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


@contextlib.contextmanager
def place(fault: str) -> Iterator[Path]:
    """Yield an empty folder, on a small disk of its own where the fault needs one."""
    with tempfile.TemporaryDirectory(prefix="ecgkit-soak-") as folder:
        if fault in NEEDS_DISK:
            mounted(Path(folder), "size=400m")
        try:
            yield Path(folder)
        finally:
            if fault in NEEDS_DISK:
                subprocess.run(["umount", "--lazy", folder], check=True)


def problems(run: Run, fault: str) -> list[str]:
    """Return what is wrong with how a disturbed run ended."""
    code, errors = run.wait()
    found = []
    # Python itself prints one where an import has no memory, and where Ctrl-C comes before the command has begun
    by_python = fault == "little_memory" or (code == -signal.SIGINT and "ecgkit/cli/" not in errors)
    if "Traceback" in errors and not by_python:
        found.append(f"a traceback: {errors[-1500:]}")
    if code == 2 and not errors.rstrip().splitlines()[-1].startswith("ecgkit: "):
        found.append(f"the last line is not ecgkit's: {errors[-300:]}")
    if (
        code not in (0, 2, 130)
        and code not in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
        and fault != "little_memory"
    ):
        found.append(f"exit code {code}: {errors[-300:]}")
    until = time.monotonic() + 15
    while run.others() and time.monotonic() < until:
        time.sleep(0.2)
    if left := run.others():
        found.append(f"left running: {list(left.values())}")
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
    return found


def try_scenario(chain: Chain, step: Step, fault: str, rng: random.Random) -> tuple[list[str], str]:
    """Disturb a run, run the command again, and return what is wrong, with a description of what happened."""
    before = chain.before(step)
    with place(fault) as folder:
        root = shutil.copytree(before, folder / "root")
        run = FAULTS[fault](step, root, chain.seconds[step.name], rng)
        found = problems(run, fault)
        ended = run.output.read_text(errors="replace").strip().splitlines()
        what = f"{'; '.join(run.moments)}; exit {run.process.returncode}; {ended[-1][-200:] if ended else ''}"
        if fault == "vanished":
            shutil.copytree(before, root, dirs_exist_ok=True)
        code, errors = begin(step, root).wait()
        repeated = step.name == "evaluate" and "has been evaluated" in errors
        if (code and not repeated) or "Traceback" in errors:
            found.append(f"the same command again: exit {code}: {errors[-600:]}")
        now, expected = fingerprint(step, root), chain.made[step.name]
        different = sorted(name for name in {*now, *expected} if now.get(name) != expected.get(name))
        if different:
            found.append(f"not the bytes of the undisturbed run: {', '.join(different)}")
    return found, what


def can_mount() -> bool:
    """Return True if this user may mount a disk in memory."""
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True)
        if made.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return made.returncode == 0


def main() -> int:
    """Try scenarios, print a line of each, and return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--steps", default=",".join(step.name for step in STEPS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--keep", type=Path, help="a folder in which the undisturbed chain is kept for the next time")
    parser.add_argument("--list", action="store_true", help="print the scenarios and run none")
    arguments = parser.parse_args()
    known = {"--steps": {step.name for step in STEPS}, "--faults": {*FAULTS}}
    for flag, asked in (("--steps", arguments.steps), ("--faults", arguments.faults)):
        if unknown := sorted({*asked.split(",")} - known[flag]):
            parser.error(f"{flag}: {', '.join(unknown)} is none of {', '.join(sorted(known[flag]))}")
    faults = [name for name in arguments.faults.split(",") if name not in NEEDS_DISK or can_mount()]
    if left_out := sorted({*arguments.faults.split(",")} - {*faults}):
        print(f"left out, since this user may not mount a disk in memory: {', '.join(left_out)}")
    steps = [step for step in STEPS if step.name in arguments.steps.split(",")]
    table = [(step, fault) for step in steps for fault in faults if step.notebook or fault not in NEEDS_NOTEBOOK]
    rng, begun, failed, tried = random.Random(arguments.seed), time.monotonic(), 0, 0
    if arguments.seconds:
        rng.shuffle(table)
    if arguments.list:
        print("\n".join(f"{step.name} {fault}" for step, fault in table))
        return 0
    with tempfile.TemporaryDirectory(prefix="ecgkit-soak-") as work:
        tempfile.tempdir = work  # what the runs print, too, is removed at the end
        chain = Chain(arguments.keep or Path(work))
        chain.work.mkdir(parents=True, exist_ok=True)
        for step, fault in table:
            if arguments.seconds and time.monotonic() - begun > arguments.seconds:
                break
            found, what = try_scenario(chain, step, fault, random.Random(f"{arguments.seed} {step.name} {fault}"))
            tried, failed = tried + 1, failed + bool(found)
            print(f"{'FAILED' if found else 'passed'}  {step.name:<12}  {fault:<14}  {what}", flush=True)
            print("".join(f"        {line}\n" for line in found), end="", flush=True)
    print(f"{tried} of {len(table)} scenarios, {failed} failed, {time.monotonic() - begun:.0f} s")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
