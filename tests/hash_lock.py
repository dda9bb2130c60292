"""Write requirements.hashes: the versions of requirements.lock with the SHA-256 of every file of them, but for torch.

Which build of torch is right depends on the machine (CPU or CUDA), and pip prefers a file whose checksum the index
states to one of a folder: with checksums, a CPU build in a folder would never be chosen.

    python tests/hash_lock.py UV
"""  # fmt: skip

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "# Made from requirements.lock by `make hashes`: make setup and .ci/run install exactly these files.\n"
WITHOUT = "torch"


def main() -> None:
    """Ask the package index for the checksums."""
    command = [sys.argv[1], "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--python-version", "3.11.9", "requirements.lock"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    text, n_left_out = re.subn(rf"^{WITHOUT}==.*\n(?: +--hash.*\n)+", "", text, flags=re.MULTILINE)
    assert n_left_out == 1, f"{WITHOUT} is not locked any more"
    (ROOT / "requirements.hashes").write_text(HEADER + text)


if __name__ == "__main__":
    main()
