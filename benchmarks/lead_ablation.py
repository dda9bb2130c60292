"""Measure what the shipped models lose when leads are missing, on fold 9 of PTB-XL.

    python benchmarks/lead_ablation.py PTBXL_DATASET [--models NAME ...] [--records N] [--resamples 500]
        [--keep FOLDER] [--write]

``PTBXL_DATASET`` is the folder of the processed dataset (``ecgkit preprocess ptbxl``), of which all records of fold 9
with a label or ``--records`` drawn ones are predicted. A missing lead is zero, as in a prediction with
``--allow-missing-leads``: each lead left out in turn, the limb leads only (from I and II, whatever derives III, aVR,
aVL and aVF), I and II without the others, and single leads. Prints a Markdown table of macro AUCs and of the
differences from all twelve leads, with 95 % intervals from a bootstrap of the patients. ``--keep`` saves the
probabilities of each model and lead set in a folder and resumes from them. ``--write`` writes ``missing_leads.json`` of
the models, which predictions tell. Computed in bfloat16 where the machine has it and the model allows it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgkit import load_model
from ecgkit.datasets import Dataset, open_dataset
from ecgkit.inference.missing_leads import LEAD_LOSSES, LeadLosses
from ecgkit.inference.model_folder import SHIPPED
from ecgkit.inference.predictor import EnsemblePredictor, NetworkPredictor, Predictor
from ecgkit.io import json_bytes, write_atomically
from ecgkit.signals.ecg import LEADS
from ecgkit.stats.ensembles import apply_ensemble
from ecgkit.stats.paired_tests import paired_difference
from ecgkit.stats.ranking import auc, macro_auc, mean_of_classes
from ecgkit.stats.resampling import patient_weights
from ecgkit.training.inference import run_over_dataset

FOLD = 9
LEAD_SETS: dict[str, tuple[str, ...]] = {
    **{f"without {lead}": tuple(other for other in LEADS if other != lead) for lead in LEADS},
    "limb leads only": LEADS[:6],
    "chest leads only": LEADS[6:],
    "I and II only": LEADS[:2],
    **{f"{lead} only": (lead,) for lead in LEADS},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, metavar="PTBXL_DATASET")
    parser.add_argument("--models", nargs="+", default=["ensemble"], help="default: the ensemble and its members")
    parser.add_argument("--records", type=int, help="default: all of fold 9")
    parser.add_argument("--resamples", type=int, default=500, help="default: 500")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    sizes = {"n_records": arguments.records, "resamples": arguments.resamples, "keep": arguments.keep}
    results = measure(arguments.models, arguments.dataset, **sizes)
    if arguments.write:
        write_losses(results)


def measure(
    names: Sequence[str], dataset: Path, *, n_records: int | None, resamples: int, keep: Path | None = None
) -> dict[str, LeadLosses]:
    """Measure what models that ship lose, of one label set; an ensemble is measured together with its members."""
    models = {name: load_model(name, precision="auto") for name in names}
    ensembles = {name: model for name, model in models.items() if isinstance(model, EnsemblePredictor)}
    for ensemble in ensembles.values():
        models = dict(ensemble.members) | models
    data = open_dataset(dataset, label_set=next(iter(models.values())).label_set)
    fold = data.folds(FOLD)
    data = data.subset(fold[np.sort(np.random.default_rng(0).permutation(len(fold))[:n_records])])
    truth = data.labels.to_numpy(np.float64, na_value=np.nan)
    weights = patient_weights(data.records["patient_id"], resamples=resamples)
    results: dict[str, LeadLosses] = {}
    whole: dict[str, tuple[float, NDArray[np.float64]]] = {}
    print("| leads |", " | ".join(f"`{name}`" for name in models), "|\n|---|", "---|" * len(models), sep="")
    for lead_set, leads in {"all twelve": LEADS, **LEAD_SETS}.items():
        each = {
            name: kept_prediction(name, model, data, leads, keep)
            for name, model in models.items()
            if name not in ensembles
        }
        for name, ensemble in ensembles.items():
            of_members = {member: each[member] for member in ensemble.members}
            each[name] = apply_ensemble(ensemble.description, of_members).astype(np.float32)
        cells = []
        for name, prob in each.items():
            value, resampled = macro_auc(truth, prob), mean_of_classes(auc(truth, prob, weights=weights))
            if leads == LEADS:
                whole[name] = value, resampled
                results[name] = {"records": len(truth), "auc": round(value, 4), "lead_sets": []}
                cells.append(f"{value:.3f}")
                continue
            lost = paired_difference(value, whole[name][0], resampled, whole[name][1])
            low, high = lost["difference_low"], lost["difference_high"]
            cells.append(f"{value:.3f} ({lost['difference']:+.3f}, {low:+.3f} to {high:+.3f})")
            found = {"leads": list(leads), "auc": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
            results[name]["lead_sets"].append(found)  # type: ignore[arg-type]
        print(f"| {lead_set} |", " | ".join(cells), "|", flush=True)
    return results


def kept_prediction(
    name: str, model: Predictor, dataset: Dataset, leads: tuple[str, ...], folder: Path | None
) -> NDArray[np.float32]:
    """Return the probabilities of `predict`, from the folder where an earlier run saved them."""
    if folder is None:
        return predict(model, dataset, leads)
    digest = hashlib.sha256(np.ascontiguousarray(dataset.signals[dataset.rows]).tobytes()).hexdigest()[:16]
    path = folder / f"{name}_{'_'.join(leads)}_{digest}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, predict(model, dataset, leads))
        write_atomically(path, buffer.getvalue())
    prob: NDArray[np.float32] = np.load(path)
    return prob


def predict(model: Predictor, dataset: Dataset, leads: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the uncalibrated probabilities of records whose other leads are zero."""
    assert isinstance(model, NetworkPredictor)  # noqa: S101 - for the type checker
    zeroed: Any = dataset.signals[dataset.rows]  # in memory, instead of a memory map
    zeroed[:, [lead not in leads for lead in LEADS]] = 0
    moved = replace(dataset, signals=zeroed, rows=np.arange(len(zeroed)))
    trained = model.faster
    return run_over_dataset(trained, moved, np.arange(len(zeroed)), trained.predict, precision=model.precision)


def write_losses(results: Mapping[str, LeadLosses]) -> None:
    """Write ``missing_leads.json`` of models that ship."""
    for name, losses in results.items():
        write_atomically(SHIPPED / name / LEAD_LOSSES, json_bytes(losses))


if __name__ == "__main__":
    main()
