"""Linear probes: what can be read off frozen embeddings, compared with simpler features."""

# ruff: noqa: F401 # a name is public by its import here
from ecgkit.feature_space.probes.by_layer import probe_layers, with_all_layers
from ecgkit.feature_space.probes.fit import ProbeResult, fit_probes
from ecgkit.feature_space.probes.linear import ALPHAS, patient_splits
from ecgkit.feature_space.probes.report import probe_summary, probe_table, readable_table, write_probe_session
from ecgkit.feature_space.probes.targets import AGE, MEASURED, SEX, TARGETS, Target, all_targets, join_targets
from ecgkit.feature_space.probes.task import probeable
