"""Tests of explanations: the network must depend on what a method points at, and the method on the network.

Every test returns one row per record, method and check; `summarise` gives means with intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from ecgkit.errors import EcgkitError
from ecgkit.explain.attributions import Explanation, explain_ecg
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.progress import progress_bar
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

if TYPE_CHECKING:
    from torch import nn

    from ecgkit.sources.demo.source import Demo

Floats = NDArray[np.floating]

CELL = 0.1
"""Seconds of one lead that are deleted, inserted, compared and pointed at together."""

FRACTIONS = np.linspace(0, 1, 11)
"""Shares of the cells that are deleted or inserted."""

SHIFT, NOISE = 0.02, 0.02
"""Seconds of the shift, and mV of the white noise, under which an explanation must be stable."""

AMPLITUDE, RANDOM = "amplitude", "random order"
"""Orders of cells that need no network: by the mean absolute voltage, and by chance."""

UNUSED_SEEDS = 1_000_000
"""Untrained weights have seeds from here on."""

AREAS = ("deletion", "insertion")

PLANTED = 0.5
"""A cell holds a planted sign if it reaches this share of the largest sign."""

LIMITS = {
    f"over {RANDOM}": (0.0, False),
    f"over {AMPLITUDE}": (0.0, False),
    "two seeds": (0.65, False),
    "randomised all": (0.2, True),
    "shift": (0.65, False),
    "noise": (0.65, False),
}
"""For each test the limit, and whether it is the most or the least that is allowed."""

TERRITORIES = {
    "ASMI": ("MI", ("V1", "V2", "V3", "V4")),
    "IMI": ("MI", ("II", "III", "aVF")),
    "CLBBB": ("CD", ("I", "aVL", "V1", "V5", "V6")),
    "CRBBB": ("CD", ("I", "V1", "V2", "V6")),
    "LVH": ("HYP", ("I", "aVL", "V1", "V2", "V5", "V6")),
}
"""For some SCP codes of PTB-XL their superclass and the leads in which textbooks look for them."""


def cells(relevance: Floats, sampling_rate: float) -> Floats:
    """Add up relevance ``(..., samples)`` over stretches of 100 ms, shape (..., cells)."""
    length = round(CELL * sampling_rate)
    starts = np.arange(0, relevance.shape[-1], length)
    return np.add.reduceat(relevance, starts, axis=-1)


def correlation(first: Floats, second: Floats) -> float:
    """Return Pearson's correlation of two arrays; 0 if one is constant, which shows nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def deletion_and_insertion(predict: Callable[[Floats], Floats], signal: Floats, order: Floats, rate: float) -> Floats:
    """Delete the most relevant cells first, and insert them first.

    Parameters
    ----------
    predict : callable
        Takes signals ``(records, 12, samples)`` and returns the probability of the class of each.
    signal : ndarray, shape (12, samples)
        In any unit.
    order : ndarray, shape (12, cells)
        The highest first.
    rate : float
        In Hz.

    Returns
    -------
    ndarray of float64, shape (2,)
        Mean probability while cells are deleted (low is good) and inserted (high is good). A straight line replaces
        what is deleted or not yet inserted, and zero where a lead has no cell left.

    References
    ----------
    Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018, arXiv:1806.07421.
    """
    rank = np.empty(order.size, np.int64)
    rank[np.argsort(-order.ravel(), kind="stable")] = np.arange(order.size)
    length = round(CELL * rate)
    of_sample = np.repeat(rank.reshape(order.shape), length, axis=1)[:, : signal.shape[1]]
    counts = np.rint(FRACTIONS * order.size)
    deleted = [_without(signal, of_sample < count) for count in counts]
    inserted = [_without(signal, of_sample >= count) for count in counts]
    probabilities = predict(np.stack(deleted + inserted)).reshape(2, -1)
    return np.asarray(np.trapezoid(probabilities, FRACTIONS, axis=1))


def _without(signal: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Replace masked samples by straight lines in each lead."""
    result, places = signal.copy(), np.arange(signal.shape[1])
    for row, hidden in zip(result, mask, strict=True):
        row[hidden] = 0 if hidden.all() else np.interp(places[hidden], places[~hidden], row[~hidden])
    return result


def check_records(
    predictor: NetworkPredictor,
    ecgs: Sequence[ECG],
    classes: Sequence[str],
    *,
    methods: Sequence[str],
    twin: NetworkPredictor | None = None,
    background: Sequence[ECG] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Test methods on records, each for one class.

    Parameters
    ----------
    predictor : NetworkPredictor
        The model.
    ecgs : sequence of ECG
        Each of another patient.
    classes : sequence of str
        The class of each that is explained.
    methods : sequence of str
        Of `ecgkit.explain.attributions.METHODS`.
    twin : NetworkPredictor, optional
        The same recipe with another seed.
    background : sequence of ECG, optional
        For ``"gradient_shap"``.
    seed : int, default 0
        Of noise, random order and random weights.
    progress : bool, default False
        Show a progress bar.

    Returns
    -------
    DataFrame
        Columns ``record_id``, ``method``, ``check``, ``value``. Checks: ``deletion`` and ``insertion``, mean
        probabilities (also of the methods ``"amplitude"`` and ``"random order"``); ``two seeds``, ``randomised head``,
        ``randomised half``, ``randomised all``, ``shift`` and ``noise``, correlations of cells of 100 ms;
        ``completeness``, the sum of the relevance minus the change of the logit.
    """
    rows: list[tuple[str, str, str, float]] = []
    scrambled = dict(randomised(predictor, seed=seed))
    random = np.random.default_rng(seed)
    with progress_bar(total=len(ecgs), description="testing explanations", unit="records", shown=progress) as bar:
        for ecg, name in zip(ecgs, classes, strict=True):
            step = round(SHIFT * ecg.sampling_rate)
            later = replace(ecg, signal=np.pad(ecg.signal[:, step:], ((0, 0), (0, step)), mode="edge"))
            noisy = replace(ecg, signal=ecg.signal + random.normal(0, NOISE, ecg.signal.shape).astype(np.float32))
            for method in methods:
                options: dict[str, Any] = {"method": method, "classes": [name], "background": background}
                options |= {"anyway": True}
                found = explain_ecg(predictor, ecg, **options)
                moved = explain_ecg(predictor, later, **options)
                others = {"noise": explain_ecg(predictor, noisy, **options)}
                others |= {check: explain_ecg(model, ecg, **options) for check, model in scrambled.items()}
                others |= {"two seeds": explain_ecg(twin, ecg, **options)} if twin else {}
                values = {check: compare(found, other) for check, other in others.items()}
                values |= {"shift": compare(found, moved, lag=round(SHIFT * found.sampling_rate))}
                if np.isfinite(found.change).all():
                    values["completeness"] = float(abs(found.relevance.sum() - found.change[0]))
                order = cells(found.relevance[0], found.sampling_rate)
                values |= _dependence(predictor, ecg, found, order)
                rows += [(ecg.record_id, method, check, value) for check, value in values.items()]
            for method, order in _without_network(found, random):
                values = _dependence(predictor, ecg, found, order)
                rows += [(ecg.record_id, method, check, value) for check, value in values.items()]
            bar.update(1)
    return pd.DataFrame(rows, columns=["record_id", "method", "check", "value"])


def compare(first: Explanation, second: Explanation, *, lag: int = 0) -> float:
    """Correlate the cells of two explanations of one class, the second of which begins ``lag`` samples later."""
    n_samples, rate = first.relevance.shape[2] - lag, first.sampling_rate
    return correlation(cells(first.relevance[0, :, lag:], rate), cells(second.relevance[0, :, :n_samples], rate))


def _dependence(predictor: NetworkPredictor, ecg: ECG, found: Explanation, order: Floats) -> dict[str, float]:
    """Return the areas of deletion and insertion of the cells in an order, of the class that is explained."""
    import torch

    trained = predictor.trained
    column = trained.classes.index(found.classes[0])
    age = np.nan if ecg.age is None else ecg.age
    columns = torch.from_numpy(trained.scaler([age], [ecg.sex])) if trained.scaler else None

    def predict(signals: Floats) -> Floats:
        prepared = ((signals - trained.mean[:, None]) / trained.std[:, None]).astype(np.float32)
        device = next(trained.model.parameters()).device
        metadata = None if columns is None else columns.expand(len(signals), -1).to(device)
        with torch.no_grad():
            logits = trained.model(torch.from_numpy(prepared).to(device), metadata)[:, column]
        return expit(logits.float().cpu().numpy().astype(np.float64))

    areas = deletion_and_insertion(predict, found.signal, order, found.sampling_rate)
    return dict(zip(AREAS, areas.tolist(), strict=True))


def _without_network(found: Explanation, random: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """Yield the orders of cells that a method must surpass."""
    amplitude = cells(np.abs(found.signal), found.sampling_rate)
    yield AMPLITUDE, amplitude
    yield RANDOM, random.random(amplitude.shape)


def randomised(predictor: NetworkPredictor, *, seed: int = 0) -> Iterator[tuple[str, NetworkPredictor]]:
    """Yield the model with its head, the upper half of its layers, and all of them replaced by untrained ones.

    References
    ----------
    Adebayo et al., "Sanity checks for saliency maps", 2018, arXiv:1810.03292.
    """
    names = layers(predictor.trained.model)[::-1]
    # A training starts from the weights of its own seed, which are small integers, and a head hardly leaves them.
    fresh = predictor.trained.untrained(UNUSED_SEEDS + seed).model
    for check, count in (("head", 1), ("half", (len(names) + 1) // 2), ("all", len(names))):
        model = deepcopy(predictor.trained.model)
        for name in names[:count]:
            model.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
        changed = deepcopy(predictor)
        changed.trained = replace(predictor.trained, model=model.eval())
        yield f"randomised {check}", changed


def layers(model: nn.Module) -> list[str]:
    """Return the names of the layers with weights, from the input to the head; a sequence counts as its parts."""
    from torch.nn import Sequential

    names: list[str] = []
    for name, child in model.named_children():
        parts = [f"{name}.{part}" for part, _ in child.named_children()] if isinstance(child, Sequential) else [name]
        names += [part for part in parts if any(True for _ in model.get_submodule(part).parameters())]
    return names


def point_at_signs(
    predictor: NetworkPredictor, demo: Demo, record_ids: Sequence[str], classes: Sequence[str], *, method: str
) -> pd.DataFrame:
    """Play the pointing game on the demo: the most relevant cell should be one in which a sign was planted.

    Parameters
    ----------
    predictor : NetworkPredictor
        The model.
    demo : Demo
        At the sampling rate of the model.
    record_ids, classes : sequence of str
        Records with a disease, and the class of each that is explained.
    method : str
        Of `ecgkit.explain.attributions.METHODS`.

    Returns
    -------
    DataFrame
        Columns as of `check_records`; ``pointing`` is 1 or 0, ``chance`` the share of the cells with a sign.

    References
    ----------
    Zhang et al., "Top-down neural attention by excitation backprop", 2018, arXiv:1608.00507.
    """
    if demo.sampling_rate != predictor.sampling_rate:
        raise EcgkitError(
            f"the demo has {demo.sampling_rate} Hz and the model reads {predictor.sampling_rate} Hz: make the demo so"
        )
    rows = []
    for record_id, name in zip(record_ids, classes, strict=True):
        signs = cells(np.abs(demo.planted_signs(record_id)), demo.sampling_rate)
        is_planted = signs >= PLANTED * signs.max()
        found = explain_ecg(predictor, demo.read(record_id), method=method, classes=[name])
        order = cells(found.relevance[0], found.sampling_rate)
        rows.append((record_id, method, "pointing", float(is_planted.flat[np.argmax(order)])))
        rows.append((record_id, method, "chance", float(is_planted.mean())))
    return pd.DataFrame(rows, columns=["record_id", "method", "check", "value"])


def territory(found: Explanation, leads: Sequence[str]) -> float:
    """Return the share of the positive relevance in some leads, divided by their share of the leads: 1 is chance."""
    positive = found.relevance[0].clip(0).sum(axis=1)
    if not positive.sum():
        return 1.0
    inside = positive[[LEADS.index(lead) for lead in leads]].sum() / positive.sum()
    return float(inside * len(LEADS) / len(leads))


def summarise(
    table: pd.DataFrame, patients: Mapping[str, str] | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Average the rows of each method and check.

    Parameters
    ----------
    table : DataFrame
        As from `check_records`.
    patients : mapping of str to str, optional
        The patient of each record; by default each record is of another.
    resamples : int, default 1000
        Bootstrap resamples of the patients.
    seed : int, default 0
        Of the resamples.

    Returns
    -------
    DataFrame
        Index ``method`` and ``check``; ``value`` with ``low`` and ``high`` (95 %), and ``records``.
    """
    rows = {}
    for key, group in table.groupby(["method", "check"], sort=False):
        values = group["value"].to_numpy(np.float64)
        ids = group["record_id"].map(lambda record: patients[record] if patients else record)
        weights = patient_weights(ids, resamples=resamples, seed=seed)
        low, high = interval(weights @ values / weights.sum(axis=1))
        rows[key] = {"value": float(values.mean()), "low": low, "high": high, "records": len(values)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["method", "check"])


def gain_over(table: pd.DataFrame, order: str = RANDOM) -> pd.DataFrame:
    """Return by how much insertion minus deletion exceeds that of an order without a network, for each record."""
    areas = {name: table[table["check"] == name].set_index(["record_id", "method"])["value"] for name in AREAS}
    score = (areas["insertion"] - areas["deletion"]).rename("value").reset_index()
    reference = score[score["method"] == order].set_index("record_id")["value"]
    gain = score[score["method"] != order].assign(check=f"over {order}")
    return gain.assign(value=gain["value"] - gain["record_id"].map(reference))


def verdict(summary: pd.DataFrame) -> pd.DataFrame:
    """Say which tests each method passes.

    Parameters
    ----------
    summary : DataFrame
        As from `summarise`, of the rows of `check_records` and `gain_over`.

    Returns
    -------
    DataFrame of str
        One row per method, one column per test in `LIMITS`: ``"passes"``, ``"fails"``, or empty if it was not made.
        The whole interval must be beyond the limit.
    """
    table: dict[str, dict[str, str]] = {}
    for row in summary.reset_index(names=["method", "check"]).to_dict("records"):
        method, check = row["method"], row["check"]
        if check in LIMITS and method not in (AMPLITUDE, RANDOM):
            limit, is_most = LIMITS[check]
            passes = row["high"] < limit if is_most else row["low"] > limit
            table.setdefault(method, {})[check] = "passes" if passes else "fails"
    return pd.DataFrame.from_dict(table, orient="index").fillna("").rename_axis("method")
