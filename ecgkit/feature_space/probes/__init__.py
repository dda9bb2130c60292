"""Linear probes: what can be read off frozen embeddings, beside what can be read off everything simpler."""

from __future__ import annotations

from ecgkit.feature_space.probes.by_layer import ALL_TOGETHER, probe_epochs, probe_layers
from ecgkit.feature_space.probes.fit import ProbeResult, fit_probes
from ecgkit.feature_space.probes.report import figures, probe_table, readable_table, write_probe_session
from ecgkit.feature_space.probes.targets import BMI, HEART_RATE, TARGETS, Target, all_targets, join_targets
from ecgkit.feature_space.probes.task import askable
from ecgkit.feature_space.probes.words import sentences

__all__ = [
    "ALL_TOGETHER",
    "BMI",
    "HEART_RATE",
    "TARGETS",
    "ProbeResult",
    "Target",
    "all_targets",
    "askable",
    "figures",
    "fit_probes",
    "join_targets",
    "probe_epochs",
    "probe_layers",
    "probe_table",
    "readable_table",
    "sentences",
    "write_probe_session",
]
