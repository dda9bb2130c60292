"""The environment of a session: versions, commit, hardware and kernel backend."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ecgkit import __version__, paths
from ecgkit.sessions.differences import differences
from ecgkit.sessions.folder import Session

RECORDED_PACKAGES = ("torch", "lightning", "xlstm", "numpy", "scipy", "pandas", "scikit-learn", "umap-learn")


def environment(kernel_backend: str | None = None) -> dict[str, Any]:
    """Describe what this process runs on.

    Parameters
    ----------
    kernel_backend : str, optional
        The backend of the recurrent cells.

    Returns
    -------
    dict
        JSON data, as ``environment.json`` keeps it.
    """
    torch = sys.modules.get("torch")  # looked up, not imported: this layer does not need torch
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "packages": installed_versions(),
        "commit": commit(),
        "platform": platform.platform(),
        "processor": processor(),
        "cpu_count": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability() if torch else None,
        "threads": torch.get_num_threads() if torch else None,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch and cuda else [],
        "kernel_backend": kernel_backend,
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of this package and of those recorded packages that are installed."""
    versions = {"ecgkit": __version__}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def describe_environment() -> str:
    """Return one line with versions, processor and GPU."""
    now = environment()
    packages = ", ".join(f"{name} {now['packages'][name]}" for name in ("ecgkit", "torch") if name in now["packages"])
    gpus = ", ".join(now["gpus"]) or "no GPU"
    return f"Python {now['python']}, {packages}, {now['cpu_count']} cores of {now['processor']}, {gpus}"


def read_environment(session: Session) -> dict[str, Any]:
    """Read a session's ``environment.json``; empty where it is missing or damaged."""
    return session.json_or_empty("environment.json")


def record_environment(session: Session, kernel_backend: str | None) -> None:
    """Write ``environment.json``; of a resumed session, ``begun_with`` keeps the earliest values of what differs."""
    now, recorded = environment(kernel_backend), read_environment(session)
    if recorded:
        begun_with = recorded.pop("begun_with", None)
        other = {key: old for key, (old, _) in differences(recorded, now).items()}
        other |= begun_with if isinstance(begun_with, dict) else {}
        now |= {"begun_with": other} if other else {}
    session.write_json("environment.json", now)


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def commit() -> str | None:
    """Return the commit of the checkout, with ``+changes`` where files differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(paths.PACKAGE), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return result.stdout.strip() if result.returncode == 0 else None

    head = ask("rev-parse", "HEAD")
    return f"{head}+changes" if head and ask("status", "--porcelain", "--untracked-files=no") else head
