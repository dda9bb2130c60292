"""Linear probes: what can be read off frozen embeddings, compared with simpler features."""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.feature_space.probes.by_layer import ALL_TOGETHER, probe_layers, with_all_layers
from ecgkit.feature_space.probes.fit import ProbeResult, fit_probes
from ecgkit.feature_space.probes.linear import ALPHAS, patient_splits
from ecgkit.feature_space.probes.report import (
    probe_figures,
    probe_summary,
    probe_table,
    readable_table,
    write_probe_session,
)
from ecgkit.feature_space.probes.targets import (
    AGE,
    BMI,
    HEART_RATE,
    HEIGHT,
    SEX,
    TARGETS,
    WEIGHT,
    Target,
    all_targets,
    join_targets,
)
from ecgkit.feature_space.probes.task import check_probeable, probeable
