"""The table of faults: every step of the chain, disturbed in every way, and then run again.

    python tests/soak_faults.py [--seed 1] [--seconds 180] [--steps train,probe] [--faults kill] [--keep DIR] [--list]

A scenario is a step, a fault, and a moment that the seed decides: mostly, when the run has written so many files. After
the fault, the same command has to end with the same bytes as the undisturbed run. The disturbed run itself may end by
its signal, or with one line that names the file or the folder; never with a traceback, and never with a process left
behind. A run that ended before its fault, or with enough memory, was not disturbed: the scenario is drawn again with an
earlier moment or less memory, and fails if no fault strikes. With ``--seconds``, as many scenarios as fit are drawn
from the table, one of each step before the second of any. Processes are known by a mark in their environment: no other
is touched.
"""

# ruff: noqa: S311, T201

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

MARK = "ECGKIT_SOAK"
LONGEST = 1800
"""Seconds after which a run counts as one that hangs."""

DRAWS = 6
"""How often a scenario is drawn before it fails because its fault did not strike."""

BEFORE = 0.3
"""The part from which on the disk is full before the step begins."""

EARLIER = 0.6
"""The part of the moments, or of the memory, out of which is drawn after a fault that did not strike."""

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
        "explain", ("explain", "session_1", "--class", "MI", "--resamples", "10"), "explanation_sessions/session_1",
        ("config.json", "*.json", "*.parquet"), after="evaluate",
    ),
    Step(
        "second", ("train", "demo", "--model", "cnn", "--epochs", "1", "--seed", "1"),
        "training_sessions/session_2", TRAINED, after="evaluate",
    ),
    Step(
        "compare", ("compare", "--resamples", "40"), "comparison_sessions/session_1",
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
        "predict",
        ("predict", "{root}/files", "--format", "csv", "--no-measurements", "--to", "{root}/answers/a.csv"),
        "answers", ("a.csv",), after="", notebook=False,
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
    struck: bool = False
    companions: list[Run] = field(default_factory=list)

    @property
    def is_alive(self) -> bool:
        """Whether the command has not ended."""
        return self.process.poll() is None

    def text(self) -> str:
        """Return what it has printed."""
        return self.output.read_text(errors="replace")

    def wait(self) -> tuple[int, str]:
        """Return the exit code and what it has printed; a run that hangs is killed, and its exit code is -9."""
        try:
            self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.moments.append(f"hangs: not finished after {LONGEST} s")
            self.kill()
        return self.process.wait(), self.text()

    def kill(self) -> None:
        """Kill the command and the processes that it started."""
        for number in [self.process.pid, *self.others()] if self.is_alive else self.others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

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


def begin(step: Step, root: Path, *, wrapper: tuple[str, ...] = ()) -> Run:
    """Start a step's command."""
    mark, output = uuid.uuid4().hex, Path(tempfile.mkstemp(prefix="ecgkit-soak-")[1])
    arguments = [text.format(root=root) for text in step.command]
    modules = os.pathsep.join(filter(None, (tempfile.gettempdir(), os.environ.get("PYTHONPATH"))))
    place = os.environ | QUICK | {MARK: mark, "PYTHONPATH": modules}
    command = [*wrapper, sys.executable, "-m", "ecgkit", *arguments, "--root", str(root)]
    with output.open("wb") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=printed, env=place, start_new_session=True)
    return Run(process, mark, output)


QUICK = {"OMP_NUM_THREADS": "1", "NUMBA_DISABLE_JIT": "1", "MPLBACKEND": "module://without_figures"}
"""Half of a step's time are figures, and a third of the maps' is compilation, which pays with more records only."""

WITHOUT_FIGURES = """
from pathlib import Path
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas
from matplotlib.figure import Figure
from PIL import Image

def savefig(figure, target, *, format="png", **_):
    if format == "png":
        Image.new("L", (8, 8)).save(target, "png")
    elif hasattr(target, "write"):
        target.write(b"")
    else:
        Path(target).touch()

Figure.savefig = savefig
"""


def entries(root: Path) -> set[tuple[str, int]]:
    """Return the files below a folder; one that was replaced is another."""
    found = set()
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                found.add((f"{folder}/{name}", os.lstat(f"{folder}/{name}").st_ino))
    return found


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
    written: dict[str, int] = field(default_factory=dict)
    made: dict[str, dict[str, str]] = field(default_factory=dict)
    locks: dict[str, threading.RLock] = field(default_factory=lambda: {step.name: threading.RLock() for step in STEPS})

    def __post_init__(self) -> None:
        if (known := self.work / "undisturbed.json").exists():
            self.seconds, self.written, self.made = json.loads(known.read_text())

    def before(self, step: Step) -> Path:
        """Return what there is before a step; the undisturbed steps up to it, and itself, are run when first needed."""
        with self.locks[step.name]:
            return self._before(step)

    def _before(self, step: Step) -> Path:
        if not step.after:
            before = self.work / "beginning"
            with self.locks["preprocess"]:
                if not before.exists():
                    write_files(before / "files")
                    (before / "answers").mkdir()
        else:
            self.before(BY_NAME[step.after])
            before = self.work / step.after
        if step.name not in self.made:
            shutil.rmtree(self.work / step.name, ignore_errors=True)
            root = shutil.copytree(before, self.work / step.name)
            begun, there = time.monotonic(), entries(root)
            code, printed = begin(step, root).wait()
            self.seconds[step.name] = time.monotonic() - begun
            self.written[step.name] = len(entries(root) - there)
            made = fingerprint(step, root)
            if code or not made:
                raise SystemExit(f"the undisturbed {step.name} failed: {code} {printed}")
            self.made[step.name] = made
            (self.work / "undisturbed.json").write_text(json.dumps([self.seconds, self.written, self.made]))
        return before


def write_files(folder: Path) -> None:
    """Write a few ECGs."""
    from ecgkit.readers import save_ecg
    from ecgkit.sources.demo import Demo

    folder.mkdir(parents=True)
    demo = Demo(n_records=30, sampling_rate=500)
    for name in demo.records["record_id"]:
        save_ecg(demo.read(name), folder / f"{name}.hea")


@dataclass
class Trial:
    """A step in a root that a fault disturbs, how long it takes and how many files it writes undisturbed."""

    step: Step
    root: Path
    seconds: float
    written: int
    rng: random.Random
    part: float = 1.0
    """The part of the run, or of the memory, out of which is drawn."""

    def wait_for_moment(self, run: Run) -> None:
        """Wait until so many files are written, the folder or the configuration appears, or so much time has passed."""
        kinds = ["file", "file", "file", "time", *(["folder", "configuration"] if self.step.notebook else [])]
        kind, folder = self.rng.choice(kinds), self.root / self.step.folder
        number = self.rng.randint(1, max(1, round(self.written * self.part)))
        until = self.rng.uniform(0.02, 1.0) * self.seconds * self.part
        begun, there, seen = time.monotonic(), entries(self.root), set[tuple[str, int]]()
        moment = {
            "file": lambda: len(seen) >= number,
            "time": lambda: time.monotonic() >= begun + until,
            "folder": folder.exists,
            "configuration": (folder / "config.json").exists,
        }[kind]
        while run.is_alive and not moment() and time.monotonic() < begun + LONGEST:
            time.sleep(0.03)
            if kind == "file":
                seen |= entries(self.root) - there
        what = f"file {number} of {self.written}" if kind == "file" else kind
        run.moments.append(f"{what}, {time.monotonic() - begun:.1f} s of {self.seconds:.1f} s")


Fault = Callable[[Trial], Run]
"""Runs the step disturbed; ``struck`` of its run is False where the command had ended before."""


def stop_with(number: signal.Signals, *, group: bool = False) -> Fault:
    """Return the fault of a signal; ``group`` sends it as a terminal does."""

    def fault(trial: Trial) -> Run:
        run = begin(trial.step, trial.root)
        trial.wait_for_moment(run)
        if run.is_alive:
            (os.killpg if group else os.kill)(run.process.pid, number)
            run.struck = run.wait()[0] != 0
        return run

    return fault


def kernel_killed(trial: Trial) -> Run:
    """Kill the kernel of the notebook."""
    run = begin(trial.step, trial.root)
    trial.wait_for_moment(run)
    while run.is_alive and not (found := run.kernels()):
        time.sleep(0.02)
    if run.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[0], signal.SIGKILL)
    run.struck = run.wait()[0] != 0
    return run


def disk_full(trial: Trial) -> Run:
    """Fill the disk during the run; before it, where the step was too quick in the first draws."""
    run = begin(trial.step, trial.root) if trial.part > BEFORE else None
    if run:
        trial.wait_for_moment(run)
    with contextlib.suppress(OSError), (trial.root.parent / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(2**16))
            filler.flush()
    run = run or begin(trial.step, trial.root)
    run.struck = run.wait()[0] != 0
    (trial.root.parent / "filler").unlink()
    return run


def read_only(trial: Trial) -> Run:
    """Run on a disk that cannot be written."""
    mounted(trial.root.parent, "remount,ro")
    run = begin(trial.step, trial.root)
    run.struck = run.wait()[0] != 0
    mounted(trial.root.parent, "remount,rw")
    return run


def vanished(trial: Trial) -> Run:
    """Delete the folder of the output during the run, with everything else of its kind."""
    run = begin(trial.step, trial.root)
    trial.wait_for_moment(run)
    folder = trial.root / trial.step.folder
    folder = folder.parent if trial.step.notebook else folder
    while run.is_alive and not folder.exists():
        time.sleep(0.01)
    if run.is_alive:
        shutil.rmtree(folder, ignore_errors=True)
        run.struck = True
    return run


def together(number: int) -> Fault:
    """Return the fault of several processes that run the same command at the same time."""

    def fault(trial: Trial) -> Run:
        runs = [begin(trial.step, trial.root) for _ in range(number)]
        codes = [run.wait()[0] for run in runs]
        runs[0].moments.append(f"exit codes {codes}")
        runs[0].struck, runs[0].companions = True, runs[1:]
        return runs[0]

    return fault


def wrong_clock(trial: Trial) -> Run:
    """Kill a run whose clock is ahead or behind, and give the files times of the past and the future."""
    days = trial.rng.choice([-400, 4000])
    faketime = shutil.which("faketime")
    run = begin(trial.step, trial.root, wrapper=(faketime, "-f", f"{days:+d}d") if faketime else ())
    trial.wait_for_moment(run)
    run.struck = run.is_alive
    run.kill()
    for path in trial.root.rglob("*"):
        moment = time.time() + trial.rng.uniform(-4000, 4000) * 86400
        with contextlib.suppress(OSError):
            os.utime(path, (moment, moment))
    return run


def little_memory(trial: Trial) -> Run:
    """Run with an address space of 0.1 to 1.5 GiB, as after ``ulimit -v``."""
    kibibytes = round((0.1 + trial.rng.uniform(0, 1.4) * trial.part) * 2**20)
    run = begin(trial.step, trial.root, wrapper=("sh", "-c", f'ulimit -v {kibibytes} && exec "$@"', "sh"))
    run.moments.append(f"{kibibytes / 2**20:.2f} GiB")
    run.struck = run.wait()[0] != 0
    return run


def left_locks(trial: Trial) -> Run:
    """Kill a run of a file system without locks, where the existence of the lock's file counts."""
    for path in trial.root.rglob("*.lock"):  # of the steps before, on a file system with locks
        path.unlink()
    run = begin(trial.step, trial.root, wrapper=without_locks(trial.root))
    trial.wait_for_moment(run)
    run.struck = run.is_alive and any(trial.root.rglob("*.lock"))
    run.kill()
    return run


def without_locks(root: Path) -> tuple[str, ...]:
    """Return the beginning of a command that finds no locks in the file system."""
    (root.parent / "without_locks").mkdir(exist_ok=True)
    (root.parent / "without_locks" / "sitecustomize.py").write_text(WITHOUT_LOCKS)
    return ("sh", "-c", f'export PYTHONPATH="{root.parent}/without_locks:$PYTHONPATH" && exec "$@"', "sh")


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
WITHOUT_LOCK = ("evaluate", "export-npz", "export-model")


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
    found = [what for companion in run.companions for what in problems(companion, fault)]
    # Python itself prints one where an import has no memory, and where Ctrl-C comes before the command has begun
    by_python = fault == "little_memory" or (code == -signal.SIGINT and "ecgkit/cli/" not in errors)
    if "Traceback" in errors and not by_python:
        found.append(f"a traceback: {errors[-1500:]}")
    if code == 2 and not errors.rstrip().rpartition("\n")[2].startswith("ecgkit: "):
        found.append(f"the last line is not ecgkit's: {errors[-300:]}")
    if (
        code not in (0, 2, 130)
        and code not in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
        and fault != "little_memory"
    ):
        found.append(f"exit code {code}: {errors[-300:]}")
    found += [moment for moment in run.moments if moment.startswith("hangs")]
    until = time.monotonic() + 15
    while run.others() and time.monotonic() < until:
        time.sleep(0.2)
    if left := run.others():
        found.append(f"left running: {list(left.values())}")
        run.kill()
    return found


def run_again(step: Step, fault: str, root: Path) -> tuple[int, str]:
    """Run the command again; where the file system has no locks, remove the file that a message names."""
    run = begin(step, root, wrapper=without_locks(root) if fault == "left_locks" else ())
    while fault == "left_locks" and run.is_alive:
        for name in re.findall(r"no such process runs, remove (\S+)", run.text()):
            Path(name).unlink(missing_ok=True)
        time.sleep(0.2)
    return run.wait()


def try_once(chain: Chain, step: Step, fault: str, rng: random.Random, part: float) -> tuple[Run, list[str]]:
    """Disturb a run, run the command again, and return the disturbed run, with what is wrong."""
    before = chain.before(step)
    with place(fault) as folder:
        root = shutil.copytree(before, folder / "root")
        run = FAULTS[fault](Trial(step, root, chain.seconds[step.name], chain.written[step.name], rng, part))
        found = problems(run, fault)
        if not run.struck and not found:
            return run, []
        if fault == "vanished":
            shutil.copytree(before, root, dirs_exist_ok=True)
        code, printed = run_again(step, fault, root)
        repeated = step.name == "evaluate" and "has been evaluated" in printed
        if (code and not repeated) or "Traceback" in printed:
            found.append(f"the same command again: exit {code}: {printed[-600:]}")
        now, expected = fingerprint(step, root), chain.made[step.name]
        different = sorted(name for name in {*now, *expected} if now.get(name) != expected.get(name))
        if different:
            found.append(f"not the bytes of the undisturbed run: {', '.join(different)}")
    return run, found


def try_scenario(chain: Chain, step: Step, fault: str, rng: random.Random) -> tuple[list[str], str]:
    """Try until the fault has struck, and return what is wrong, with a description of what happened."""
    for draw in range(DRAWS):
        run, found = try_once(chain, step, fault, rng, EARLIER**draw)
        ended = run.text().strip().splitlines()
        last = ended[-1][-200:] if ended else ""
        what = f"draw {draw + 1}; {'; '.join(run.moments)}; exit {run.process.returncode}; {last}"
        if run.struck or found:
            return found, what
    return [f"not disturbed in {DRAWS} draws"], what


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="scenarios at a time")
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
    table = [(step, fault) for step in steps for fault in faults if can_strike(step, fault)]
    if arguments.seconds:
        table = draw_evenly(table, random.Random(arguments.seed))
    if arguments.list:
        print("\n".join(f"{step.name} {fault}" for step, fault in table))
        return 0
    with tempfile.TemporaryDirectory(prefix="ecgkit-soak-") as work:
        tempfile.tempdir = work  # what the runs print, too, is removed at the end
        (Path(work) / "without_figures.py").write_text(WITHOUT_FIGURES)
        chain = Chain(arguments.keep or Path(work))
        chain.work.mkdir(parents=True, exist_ok=True)
        return try_table(chain, table, arguments)


def can_strike(step: Step, fault: str) -> bool:
    """Return True if a step has what a fault disturbs: a kernel, a lock."""
    has_lock = step.name not in WITHOUT_LOCK
    return (step.notebook or fault not in NEEDS_NOTEBOOK) and (has_lock or fault != "left_locks")


def draw_evenly(table: list[tuple[Step, str]], rng: random.Random) -> list[tuple[Step, str]]:
    """Shuffle the scenarios: one of each step before the second of any, and the ends of the chain first."""
    rng.shuffle(table)
    names = [step.name for step, _ in table]
    turns = [names[:position].count(name) for position, name in enumerate(names)]
    order = sorted(range(len(table)), key=lambda position: (turns[position], -n_before(table[position][0])))
    return [table[position] for position in order]


def n_before(step: Step) -> int:
    """Count the steps that come before a step."""
    return 1 + n_before(BY_NAME[step.after]) if step.after else 0


def try_table(chain: Chain, table: list[tuple[Step, str]], arguments: argparse.Namespace) -> int:
    """Try scenarios, several at a time, print a line of each, and return 1 if one failed."""
    begun, results = time.monotonic(), []

    def try_one(scenario: tuple[Step, str]) -> None:
        step, fault = scenario
        if arguments.seconds and time.monotonic() - begun > arguments.seconds:
            return
        found, what = try_scenario(chain, step, fault, random.Random(f"{arguments.seed} {step.name} {fault}"))
        results.append(bool(found))
        lines = [f"{'FAILED' if found else 'passed'}  {step.name:<12}  {fault:<14}  {what}"]
        print("\n        ".join([*lines, *found]), flush=True)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        for tried in [pool.submit(try_one, scenario) for scenario in table]:
            tried.result()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = f"{time.monotonic() - begun:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of processor time"
    print(f"{len(results)} of {len(table)} scenarios, {sum(results)} failed, {took}")
    return int(any(results))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader of the lines, such as `head`, has closed them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
