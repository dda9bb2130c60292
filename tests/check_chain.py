"""Check what a chain left behind: every training session is done and reaches a macro AUC on fold 10.

    python tests/check_chain.py ROOT --at-least 0.85
"""  # fmt: skip

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ecgkit import paths, sessions


def main() -> int:
    """Print each session's macro AUC and exit with 1 if one is too low."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--at-least", type=float, required=True)
    arguments = parser.parse_args()
    found = sessions.list_sessions(paths.TRAINING, arguments.root)
    scores = {s.name: s.read_json("metrics.json")["fold_10"]["macro"]["auc"]["value"] for s in found if s.is_done}
    for name, score in scores.items():
        print(f"{name}: macro AUC {score:.4f} on fold 10")  # noqa: T201
    good = len(scores) == len(found) > 0 and all(score >= arguments.at_least for score in scores.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
