"""The steps of the workflow: each is a notebook, the configuration of its parameters, and a folder for its outputs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.workflow.parameters import check_settings

SESSION = "training_session"
PRETRAINING_CONFIG = "training.pretraining.config:PretrainingConfig"


@dataclass(frozen=True)
class Step:
    """A notebook as a step of the workflow.

    Attributes
    ----------
    name : str
        The command that runs it.
    notebook : str
        File name of the notebook.
    config : str
        Where the configuration class is in the package, as ``module:Class``; imported when it is first needed.
    kind : str
        The folder of its outputs.
    subject : str
        The parameter that the command takes without a flag.
    """

    name: str
    notebook: str
    config: str
    kind: str
    subject: str

    @property
    def config_class(self) -> Any:
        """The configuration class: a dataclass with the methods ``resolve`` and ``inputs``."""
        module, _, name = self.config.partition(":")
        return getattr(importlib.import_module(f"ecgkit.{module}"), name)

    @property
    def path(self) -> Path:
        """The source notebook."""
        return paths.notebook_path(self.notebook)

    def resolve(self, root: Path, settings: Mapping[str, Any]) -> Any:
        """Check settings and complete them to a configuration.

        Parameters
        ----------
        root : Path
            The folder of data sets and sessions.
        settings : mapping
            Values by the names of the configuration's fields; None leaves a field unset.

        Returns
        -------
        object
            An instance of `config_class`.

        Raises
        ------
        EcgkitError
            If there is no such field, or a value is invalid.
        """
        return self.config_class.resolve(root, **check_settings(self.config_class, settings))


_STEPS = (
    Step("preprocess", "1_Preprocessing.ipynb", "datasets.config:PreprocessingConfig", paths.PROCESSED, "source"),
    Step("train", "2_Training.ipynb", "training.config:TrainingConfig", paths.TRAINING, "dataset"),
    Step("probe", "3_Feature_Space.ipynb", "feature_space.config:FeatureSpaceConfig", paths.PROBES, SESSION),
    Step("explain", "4_Explainability.ipynb", "explain.config:ExplainabilityConfig", paths.EXPLANATIONS, SESSION),
    Step("diagnose", "5_Diagnosis.ipynb", "diagnosis.config:DiagnosisConfig", paths.DIAGNOSES, "files"),
    Step("compare", "6_Comparison.ipynb", "evaluation.config:ComparisonConfig", paths.COMPARISONS, "sessions"),
    Step("pretrain", "7_Pretraining.ipynb", PRETRAINING_CONFIG, paths.PRETRAINING, "dataset"),
)
STEPS = {step.name: step for step in _STEPS}
"""Every notebook that is a step, by the name of its command."""


def recorded(config: Any, root: Path) -> dict[str, Any]:
    """Return what ``config.json`` holds: every parameter, and the fingerprints of what is read."""
    return asdict(config) | config.inputs(root)
