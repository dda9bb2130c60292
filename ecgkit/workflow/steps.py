"""The steps of the workflow: each is a notebook, the configuration of its parameters, and a folder for its outputs."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecgkit import paths
from ecgkit.workflow.parameters import check_settings

SESSION = "training_session"
CHECK_TRAINING, CHECK_PRETRAINING = "training.checks:check_training", "training.checks:check_pretraining"
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
    check : str
        A function of a configuration and the root that refuses, before a session is made, what the notebook would
        refuse, as ``module:function``; imported when it is first needed.
    """

    name: str
    notebook: str
    config: str
    kind: str
    subject: str
    check: str = ""

    @property
    def config_class(self) -> Any:
        """The configuration class: a dataclass with the methods ``resolve`` and ``inputs``."""
        return pkgutil.resolve_name(f"ecgkit.{self.config}")

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
            If there is no such field, a value is invalid, or the notebook would refuse it.
        """
        config = self.config_class.resolve(root, **check_settings(self.config_class, settings))
        if self.check:
            pkgutil.resolve_name(f"ecgkit.{self.check}")(config, root)
        return config


_STEPS = (
    Step("preprocess", "1_Preprocessing.ipynb", "datasets.config:PreprocessingConfig", paths.PROCESSED, "source"),
    Step("train", "2_Training.ipynb", "training.config:TrainingConfig", paths.TRAINING, "dataset", CHECK_TRAINING),
    Step("probe", "3_Feature_Space.ipynb", "feature_space.config:FeatureSpaceConfig", paths.PROBES, SESSION),
    Step("explain", "4_Explainability.ipynb", "explain.config:ExplainabilityConfig", paths.EXPLANATIONS, SESSION),
    Step("diagnose", "5_Diagnosis.ipynb", "diagnosis.config:DiagnosisConfig", paths.DIAGNOSES, "files"),
    Step("compare", "6_Comparison.ipynb", "evaluation.config:ComparisonConfig", paths.COMPARISONS, "sessions"),
    Step("pretrain", "7_Pretraining.ipynb", PRETRAINING_CONFIG, paths.PRETRAINING, "dataset", CHECK_PRETRAINING),
)
STEPS = {step.name: step for step in _STEPS}
"""Every notebook that is a step, by the name of its command."""


def recorded(config: Any, root: Path) -> dict[str, Any]:
    """Return what ``config.json`` holds: every parameter, and the fingerprints of what is read."""
    return asdict(config) | config.inputs(root)
