"""The outputs of the models that ship for synthetic ECGs; ``python tests/make_pretrained_outputs.py`` stores them.

Run it when the weights that ship have changed, and only then: the stored numbers show whether a later version of the
package, or another machine, still gives the same outputs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import ecgkit
from ecgkit.inference.model_folder import ENSEMBLE, SHIPPED, WEIGHTS, shipped
from ecgkit.io import file_sha256
from ecgkit.sources.demo import Demo

STORED = Path(__file__).with_name("pretrained_outputs.json")
RATES = (100, 500)
N_RECORDS = 6


def outputs(name: str) -> dict[str, object]:
    """Return the checksum of a model's weights and its calibrated probabilities for a few ECGs at each rate."""
    model = ecgkit.load_model(name)
    file = SHIPPED / name / WEIGHTS
    sha256 = file_sha256(file if file.is_file() else SHIPPED / name / ENSEMBLE)
    result: dict[str, object] = {"weights_sha256": sha256, "classes": list(model.classes)}
    for rate in RATES:
        source = Demo(n_records=20, sampling_rate=rate, seed=1)
        rows = source.records.head(N_RECORDS)
        signals = np.stack([source.read(record_id).signal for record_id in rows["record_id"]])
        who = {"age": rows["age"].tolist(), "sex": rows["sex"].tolist()} if model.takes_metadata else {}
        prob = model.predict_proba(signals, sampling_rate=rate, **who)
        result[f"{rate} Hz"] = np.round(prob.astype(float), 6).tolist()
    return result


if __name__ == "__main__":
    STORED.write_text(json.dumps({name: outputs(name) for name in shipped()}, indent=1) + "\n")
