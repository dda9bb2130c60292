"""Write requirements.hashes: the versions of requirements.lock with the SHA-256 of every file of them.

    python tests/hash_lock.py UV
"""  # fmt: skip

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# Made from requirements.lock by `make hashes`: make setup and .ci/run install exactly these files.\n"
CPU = {"torch==2.13.0": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}
"""The CPU build for Linux and Python 3.11, which is not on PyPI but on download.pytorch.org."""


def main() -> None:
    """Ask the package index for the checksums."""
    command = [sys.argv[1], "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--python-version", "3.11.9", "requirements.lock"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for pin, checksum in CPU.items():
        assert f"{pin} \\\n" in text, f"{pin} is not locked any more: replace its checksum"
        text = text.replace(f"{pin} \\\n", f"{pin} \\\n    --hash=sha256:{checksum} \\\n")
    (ROOT / "requirements.hashes").write_text(HEADER + text)


if __name__ == "__main__":
    main()
