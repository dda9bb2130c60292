"""Compare the locked versions with the advisories that are published: python tests/audit.py PIP_AUDIT

Returns 1 if one is known to be vulnerable. Where no advisory service can be reached, nothing was compared: the last
line then says so, and it is not a failure, since the same commit would pass elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
NOT_COMPARED = "no advisory service can be reached from here: nothing was compared"


def verdict(output: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines for what ``pip-audit --format json`` has printed.

    Parameters
    ----------
    output : str
        A JSON object with ``dependencies``, or anything else where it could not ask.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    compared = [package for package in packages if "vulns" in package]
    if not compared:
        return 0, [NOT_COMPARED]
    found = [
        f"{package['name']} {package['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none'}"
        for package in compared
        for known in package["vulns"]
    ]
    skipped = [package["name"] for package in packages if "vulns" not in package]
    unknown = [f"without advisories: {', '.join(skipped)}"] if skipped else []
    return bool(found), [*found, *unknown, f"{len(compared)} packages compared, {len(found)} advisories"]


def main() -> int:
    """Run pip-audit on the lock and print what it found."""
    options = ["--requirement", str(LOCK), "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    command = [sys.argv[1], *options, "--format", "json", "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, lines = verdict(done.stdout)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return code


if __name__ == "__main__":
    sys.exit(main())
