"""``python -m ecgkit`` is the command ``ecgkit``."""

from __future__ import annotations

import sys

from ecgkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
