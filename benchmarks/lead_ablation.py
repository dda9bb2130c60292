"""Measure what the shipped models lose when leads are missing, on fold 9 of PTB-XL.

    python benchmarks/lead_ablation.py PTBXL_DATASET [--records N] [--resamples 500] [--keep FOLDER] [--write]

``PTBXL_DATASET`` is the folder of the processed dataset (``ecgkit preprocess ptbxl``), of which all records of fold 9
with a superclass or ``--records`` drawn ones are predicted. A missing lead is zero, as in a prediction with
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
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgkit import load_model
from ecgkit.datasets import open_dataset
from ecgkit.inference.batches import run_batches
from ecgkit.inference.missing_leads import LEAD_LOSSES, LeadLosses
from ecgkit.inference.model_folder import ENSEMBLE, SHIPPED
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.io import json_bytes, read_json, write_atomically
from ecgkit.signals.ecg import LEADS
from ecgkit.stats.ensembles import apply_ensemble
from ecgkit.stats.paired_tests import paired_difference
from ecgkit.stats.ranking import auc
from ecgkit.stats.resampling import patient_weights

FOLD, AT_ONCE = 9, 32
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
    parser.add_argument("--records", type=int, help="default: all of fold 9")
    parser.add_argument("--resamples", type=int, default=500, help="default: 500")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset, label_set="superclass")
    fold = dataset.folds(FOLD)
    positions = fold[np.sort(np.random.default_rng(0).permutation(len(fold))[: arguments.records])]
    stored, truth = dataset.signals[dataset.rows[positions]], dataset.labels.iloc[positions].to_numpy()
    weights = patient_weights(dataset.records["patient_id"].iloc[positions], resamples=arguments.resamples)
    description = read_json(SHIPPED / "ensemble" / ENSEMBLE)
    names = (*description["members"], "ensemble")
    results: dict[str, LeadLosses] = {}
    whole: dict[str, tuple[float, NDArray[np.float64]]] = {}
    print("| leads |", " | ".join(f"`{name}`" for name in names), "|\n|---|", "---|" * len(names), sep="")
    for lead_set, leads in {"all twelve": LEADS, **LEAD_SETS}.items():
        each = {name: kept_prediction(name, stored, leads, arguments.keep) for name in description["members"]}
        each["ensemble"] = apply_ensemble(description, each).astype(np.float32)
        cells = []
        for name, prob in each.items():
            value, resampled = float(auc(truth, prob).mean()), auc(truth, prob, weights=weights).mean(axis=1)
            if leads == LEADS:
                whole[name] = value, resampled
                results[name] = {"records": len(positions), "auc": round(value, 4), "lead_sets": []}
                cells.append(f"{value:.3f}")
                continue
            lost = paired_difference(value, whole[name][0], resampled, whole[name][1])
            low, high = lost["difference_low"], lost["difference_high"]
            cells.append(f"{value:.3f} ({lost['difference']:+.3f}, {low:+.3f} to {high:+.3f})")
            found = {"leads": list(leads), "auc": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
            results[name]["lead_sets"].append(found)  # type: ignore[arg-type]
        print(f"| {lead_set} |", " | ".join(cells), "|", flush=True)
    for name, losses in results.items() if arguments.write else ():
        write_atomically(SHIPPED / name / LEAD_LOSSES, json_bytes(losses))


def kept_prediction(
    name: str, stored: NDArray[np.int16], leads: tuple[str, ...], folder: Path | None
) -> NDArray[np.float32]:
    """Return the probabilities of `predict`, from the folder where an earlier run saved them."""
    if folder is None:
        return predict(name, stored, leads)
    digest = hashlib.sha256(stored.tobytes()).hexdigest()[:16]
    path = folder / f"{name}_{'_'.join(leads)}_{digest}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, predict(name, stored, leads))
        write_atomically(path, buffer.getvalue())
    prob: NDArray[np.float32] = np.load(path)
    return prob


def predict(name: str, stored: NDArray[np.int16], leads: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the uncalibrated probabilities of records whose other leads are zero."""
    model = load_model(name, precision="auto")
    assert isinstance(model, NetworkPredictor)  # noqa: S101 - for the type checker
    zeroed = stored.copy()
    zeroed[:, [lead not in leads for lead in LEADS]] = 0
    prepare = model.trained.preparation.network_input
    batches = ((prepare(zeroed[i : i + AT_ONCE]), None) for i in range(0, len(zeroed), AT_ONCE))
    return run_batches(
        model.trained.model, batches, model.trained.predict, n_records=len(zeroed), precision=model.precision
    )


if __name__ == "__main__":
    main()
