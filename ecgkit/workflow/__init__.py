"""The workflow: notebooks as steps, run one by one, as a chain, as a sweep or a search, and reproduced."""

from __future__ import annotations

from ecgkit.workflow.run import Outcome, Run, run_step, start
from ecgkit.workflow.steps import STEPS, Step

__all__ = ["STEPS", "Outcome", "Run", "Step", "run_step", "start"]
