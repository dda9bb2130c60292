"""Take the model of a finished training on PTB-XL into the package, as one that ships.

    python benchmarks/ship_model.py SESSION NAME [--root FOLDER] [--records N] [--resamples 500] [--force]

``SESSION`` is a training session of ``--root``, and ``NAME`` is what `ecgkit.load_model` will call the model. Refused
are a session that is not finished or was changed afterwards, one whose fold 10 was not evaluated, one that left out
training data, and one whose ``metrics.json`` is not what its predictions of fold 9 say. The folder is that of ``ecgkit
export-model``: weights, thresholds, calibration, ``reference.json``, ``config.json``, ``metrics.json``; the card is
written anew, with this name. Fold 10 is not predicted. The change of the macro AUC in bfloat16, by which
``--precision auto`` decides, and ``missing_leads.json`` (see ``benchmarks/lead_ablation.py``) are measured on fold 9;
then the outputs for synthetic ECGs that the tests compare with are written again. With ``--force`` a model of this name
is replaced. ``WANTED`` in ``tests/inference/test_shipped.py`` lists the names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from lead_ablation import measure, write_losses

from ecgkit import paths, sessions
from ecgkit.datasets import Dataset
from ecgkit.errors import EcgkitError
from ecgkit.evaluation.card import session_card
from ecgkit.inference.batches import PRECISIONS
from ecgkit.inference.export import export_model
from ecgkit.inference.model_folder import CARD, SHIPPED, WEIGHTS, shipped
from ecgkit.inference.reference import REFERENCE
from ecgkit.inference.weights import load_weights
from ecgkit.io import file_sha256
from ecgkit.sessions import Session
from ecgkit.stats.ranking import macro_auc
from ecgkit.training.inference import open_trained, run_over_dataset

OUTPUTS = Path(__file__).resolve().parent.parent / "tests" / "make_pretrained_outputs.py"
MOST_BYTES = 20_000_000
"""Of the weights of all models that ship together."""


def main() -> None:
    """Check, copy, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("session")
    parser.add_argument("name")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--records", type=int, help="of fold 9, for missing_leads.json")
    parser.add_argument("--resamples", type=int, default=500, help="of their patients")
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    root = paths.resolve_root(arguments.root)
    try:
        session = sessions.open_finished(arguments.session, paths.TRAINING, root)
        check(session)
        dataset = open_trained(session, root, test=True).dataset
        folder = ship(session, arguments.name, dataset, force=arguments.force)
        measure_bfloat16(folder, dataset)
    except EcgkitError as error:
        sys.exit(str(error))
    write_losses(measure([arguments.name], dataset.path, n_records=arguments.records, resamples=arguments.resamples))
    subprocess.run([sys.executable, OUTPUTS], check=True)
    total = sum(path.stat().st_size for path in SHIPPED.rglob("*.safetensors"))
    print(f"{folder}; {', '.join(shipped())}: {total / 1e6:.2f} MB of weights of at most {MOST_BYTES / 1e6:.0f}")
    if total > MOST_BYTES:
        sys.exit(f"the weights take {total / 1e6:.2f} MB: take one of them away")


def check(session: Session) -> None:
    """Refuse a session whose model is not to ship."""
    config, metrics = session.config, session.read_json("metrics.json")
    problem = ""
    if config.get("target"):
        problem = f"was trained for {config['target']}, and models of label sets ship"
    elif "fold_10" not in metrics:
        problem = f"was not evaluated on fold 10: run ecgkit evaluate {session.name}"
    elif config.get("hold_out_folds") or config.get("train_fraction", 1.0) < 1:
        problem = "did not see all of folds 1-8"
    elif not (session.path / REFERENCE).is_file():
        problem = f"has no {REFERENCE}: train it again"
    else:
        table = pd.read_parquet(session.path / "predictions.parquet")
        table = table[table["fold"] == 9]
        names = [name.removeprefix("true_") for name in table.columns if name.startswith("true_")]
        truth, prob = (table[[f"{kind}_{name}" for name in names]] for kind in ("true", "prob"))
        found = macro_auc(truth.to_numpy(np.float64, na_value=np.nan), prob.to_numpy())
        told = metrics["fold_9"]["macro"]["auc"]["value"]
        if abs(found - told) > 1e-6:
            problem = f"tells a macro AUC of {told:.4f} on fold 9, and its predictions one of {found:.4f}"
    if problem:
        raise EcgkitError(f"{session.path} {problem}")


def ship(session: Session, name: str, dataset: Dataset, *, force: bool) -> Path:
    """Copy the model into the package, under a name by which it is loaded."""
    folder = export_model(session.path, SHIPPED / name, force=force)
    card = session_card(session, dataset, session.read_json("metrics.json"), name=name)
    (folder / CARD).write_text(card, encoding="utf-8")
    if labels := session.config.get("distill"):
        config = folder / "config.json"  # the folder of the soft labels is that of one machine
        config.write_text(config.read_text(encoding="utf-8").replace(labels, Path(labels).name), encoding="utf-8")
    return folder


def measure_bfloat16(folder: Path, dataset: Dataset) -> None:
    """Write into the weights how bfloat16 changes the macro AUC on fold 9, and their new checksum into the card."""
    trained, checksum = load_weights(folder / WEIGHTS), file_sha256(folder / WEIGHTS)
    fold, call = dataset.folds(9), trained.predict
    truth = dataset.labels.to_numpy(np.float64, na_value=np.nan)[fold]
    probs = [run_over_dataset(trained, dataset, fold, call, precision=precision) for precision in PRECISIONS]
    change = float(macro_auc(truth, probs[1]) - macro_auc(truth, probs[0]))
    replace(trained, bfloat16_auc_change=round(change, 6)).save(folder / WEIGHTS)
    card = (folder / CARD).read_text(encoding="utf-8")
    (folder / CARD).write_text(card.replace(checksum, file_sha256(folder / WEIGHTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
