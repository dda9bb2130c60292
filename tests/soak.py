"""Fuzz the service with schemathesis: no answer may have a status of 5xx, or one that its description lacks.

    python tests/soak.py SCHEMATHESIS [--seconds 600] [--seed 1]

SCHEMATHESIS is the command of that name, which has an environment of its own: see `make soak`.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main() -> int:
    """Start the service, fuzz it, end it, and return what schemathesis returned, or 1 if the service has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schemathesis")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "ecgkit", "serve", "--port", "0", "--workers", "1"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout
        address = process.stdout.readline().strip()
        fuzz = [arguments.schemathesis, "run", f"{address}/openapi.json", "--checks", CHECKS]
        fuzz += [
            "--max-time",
            str(arguments.seconds),
            "--seed",
            str(arguments.seed),
            "--max-examples",
            "100000",
            "--request-timeout",
            "60",
        ]
        code = subprocess.run([str(Path(fuzz[0])), *fuzz[1:]], check=False).returncode
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
        log.seek(0)
        failures = [line for line in log if '"event": "error"' in line or '"level": "error"' in line]
    sys.stdout.writelines(failures[:20])
    return code or ended or bool(failures)


if __name__ == "__main__":
    sys.exit(main())
