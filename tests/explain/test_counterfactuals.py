from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgkit import EcgkitError
from ecgkit.explain.counterfactuals import grow_sign, grow_signs, summarise_growth
from ecgkit.plots.counterfactuals import sign_curves
from ecgkit.signals.measurements import measure_ecg
from ecgkit.sources.demo.signs import SIGNS
from ecgkit.sources.demo.source import make_ecg

MEASURED = {
    "st_elevation": (("st_V2", "st_V3", "st_V4"), 1.0),
    "st_depression": (("st_V5", "st_V6"), -1.0),
    "t_inversion": (("t_V4", "t_V5", "t_V6"), -1.0),
    "qrs_duration": (("qrs_duration",), 1.0),
    "pr_interval": (("pr",), 1.0),
}


@pytest.mark.parametrize("sign", MEASURED)
def test_a_sign_grows_by_what_was_asked_for(sign: str) -> None:
    names, direction = MEASURED[sign]
    sizes = SIGNS[sign].sizes[:: len(SIGNS[sign].sizes) - 1]
    small, large = (measure_ecg(make_ecg(signs={sign: size}, noise=0.1, seed=5)) for size in sizes)
    change = direction * np.mean([large[name] - small[name] for name in names])
    assert change == pytest.approx(sizes[1] - sizes[0], rel=0.25)


def test_only_the_sign_changes() -> None:
    without, small, large = (make_ecg(signs={"st_elevation": size}, seed=2).signal for size in (0, 0.2, 0.4))
    assert large - without == pytest.approx(2 * (small - without), abs=0.003)  # rounding to a microvolt, three times
    change = large - without
    assert change[0] + change[2] == pytest.approx(change[1], abs=0.003)  # Einthoven's law
    assert without == pytest.approx(make_ecg(seed=2).signal, abs=1e-6)
    voltage = [measure_ecg(make_ecg(signs={"voltage": size}, noise=0.1, seed=5))["sokolow_lyon"] for size in (1, 2)]
    assert 1.6 < voltage[1] / voltage[0] < 2.1


def test_a_network_trained_on_the_demo_follows_and_random_weights_do_not(demo_model) -> None:
    signs = ("st_elevation", "t_inversion")
    trained, random = (
        summarise_growth(pd.concat([grow_sign(demo_model(**options), sign, n_records=4) for sign in signs]))
        for options in ({}, {"steps": 0})
    )
    assert trained.loc["t_inversion", "follows"]
    assert (trained["spearman"] > 0.95).all()
    assert (trained["steps"] > 0.9).all()
    assert not random["follows"].any()
    assert (random["rise"].abs() < 0.05).all()
    assert (trained["rise_low"] > 0.1).all()


def curves(*rows: list[float]) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame({"sign": "voltage", "class": "HYP", "record_id": str(i), "size": range(4), "probability": row})
            for i, row in enumerate(rows)
        ]
    )


def test_monotone_curves_are_measured() -> None:
    rising = summarise_growth(curves([0.1, 0.2, 0.3, 0.9], [0.2, 0.3, 0.4, 0.8])).loc["voltage"]
    assert (rising["spearman"], rising["steps"], rising["rise"]) == (1, 1, pytest.approx(0.7))
    assert rising["follows"]
    falling = summarise_growth(curves([0.9, 0.5, 0.3, 0.1])).loc["voltage"]
    assert (falling["spearman"], falling["steps"], falling["rise"]) == (-1, 0, pytest.approx(-0.8))
    constant = summarise_growth(curves([0.5] * 4)).loc["voltage"]
    assert (constant["spearman"], constant["steps"], constant["follows"]) == (0, 0, False)


def test_the_figure_shows_every_record_and_the_mean() -> None:
    table = curves([0.1, 0.2, 0.3, 0.9], [0.2, 0.3, 0.4, 0.8])
    figure = sign_curves(table, summarise_growth(table), {"HYP": 0.5})
    (axes,) = figure.axes
    mean = next(line for line in axes.lines if line.get_gid() == "mean")
    assert mean.get_ydata() == pytest.approx([0.15, 0.25, 0.35, 0.85])
    assert sum(line.get_gid() == "record" for line in axes.lines) == 2
    assert "times" in axes.get_xlabel()


def test_a_model_of_other_classes_has_no_curves(demo_model, monkeypatch) -> None:
    model = demo_model(steps=0)
    monkeypatch.setattr(model, "classes", ("AFIB",))
    table = grow_signs(model)
    assert table.empty
    assert not sign_curves(table, summarise_growth(table), {}).axes


def test_bad_signs_are_named(demo_model) -> None:
    with pytest.raises(EcgkitError, match="magic"):
        grow_sign(demo_model(), "magic")
    with pytest.raises(EcgkitError, match="LVH"):
        grow_sign(demo_model(), "voltage", class_name="LVH")
    with pytest.raises(EcgkitError, match="0.9"):
        make_ecg(signs={"st_elevation": 0.9})
    with pytest.raises(EcgkitError, match="nan"):
        make_ecg(signs={"st_elevation": float("nan")})
