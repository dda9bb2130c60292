"""Tests of explanations: the network must depend on what a method points at, and the method on the network.

Every test returns one row per record, method and check; `summarise` gives means with intervals. Many records are
explained and compared at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from ecgkit.errors import EcgkitError
from ecgkit.explain.attributions import background_set, network_inputs
from ecgkit.explain.methods import Inputs, relevance_of
from ecgkit.inference.predictor import NetworkPredictor
from ecgkit.signals.ecg import ECG, LEADS
from ecgkit.stats.resampling import RESAMPLES, interval, patient_weights

if TYPE_CHECKING:
    from torch import nn

    from ecgkit.inference.weights import TrainedModel
    from ecgkit.models.base import ECGModel
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

NETWORKS = 10
"""Untrained networks, of which the records take turns; one alone might agree with the trained one by chance."""

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


def correlation(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Return Pearson's correlation of each record of two arrays; 0 where one is constant, which shows nothing."""
    pair = [np.asarray(values, np.float64).reshape(len(values), -1) for values in (first, second)]
    centred = [values - values.mean(axis=1, keepdims=True) for values in pair]
    scale = np.prod([np.sqrt((values**2).sum(axis=1)) for values in centred], axis=0)
    varies = np.all([np.ptp(values, axis=1) > 0 for values in pair], axis=0)
    found: NDArray[np.float64] = np.where(varies, (centred[0] * centred[1]).sum(axis=1) / np.where(varies, scale, 1), 0)
    return found


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
    n_randomised: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Test methods on records, each for one class.

    Parameters
    ----------
    predictor : NetworkPredictor
        The model.
    ecgs : sequence of ECG
        Of one length, each of another patient.
    classes : sequence of str
        The class of each that is explained.
    methods : sequence of str
        Of `ecgkit.explain.attributions.METHODS`; the orders ``"amplitude"`` and ``"random order"``, which need no
        network, are added.
    twin : NetworkPredictor, optional
        The same recipe with another seed.
    n_randomised : int, optional
        Records that are explained with random weights, spread over all of them; all by default.
    seed : int, default 0
        Of noise, random order and random weights.

    Returns
    -------
    DataFrame
        Columns ``record_id``, ``method``, ``check``, ``value``. Checks: ``deletion`` and ``insertion``, mean
        probabilities (also of the two orders); ``two seeds``, ``randomised from LAYER`` for each layer from the last
        to the first, for which it is ``randomised all``, ``shift`` and ``noise``, correlations of cells of 100 ms;
        ``size of randomised all``, the absolute correlation; ``completeness``, by how much the sum of the relevance
        differs from the change of the logit.
    """
    background = background_set(predictor.sampling_rate) if "gradient_shap" in methods else None
    trial = prepare_trial(predictor, ecgs, classes, twin=twin, background=background, seed=seed)
    tables = [trial.check(method, n_randomised=n_randomised) for method in (*methods, AMPLITUDE, RANDOM)]
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Trial:
    """Records prepared for the tests of any number of methods.

    Attributes
    ----------
    trained : TrainedModel
        The model.
    record_ids : tuple of str
        One per record.
    clean, shifted, noisy : Inputs
        The records as they are, 20 ms later, and with noise.
    twin : Inputs or None
        The records as another network reads them.
    seed : int
        Of random order and random weights.
    """

    trained: TrainedModel
    record_ids: tuple[str, ...]
    clean: Inputs
    shifted: Inputs
    noisy: Inputs
    twin: Inputs | None
    seed: int

    def check(self, method: str, *, n_randomised: int | None = None) -> pd.DataFrame:
        """Test one method, or one of the orders that need no network; see `check_records`."""
        if method in (AMPLITUDE, RANDOM):
            cell_heights = cells(np.abs(self.clean.millivolts), self.clean.sampling_rate)
            drawn = np.random.default_rng(self.seed).random(cell_heights.shape)
            return self._table(method, self._dependence(cell_heights if method == AMPLITUDE else drawn))
        relevance, change = (values[:, 0] for values in relevance_of(method, self.clean))
        found = cells(relevance, self.clean.sampling_rate)
        values = self._dependence(found)
        if np.isfinite(change).all():
            values["completeness"] = np.abs(relevance.sum(axis=(1, 2)) - change)
        rate, n_samples = self.clean.sampling_rate, relevance.shape[2]
        lag, later = round(SHIFT * rate), relevance_of(method, self.shifted)[0][:, 0]
        values["shift"] = correlation(cells(relevance[..., lag:], rate), cells(later[..., : n_samples - lag], rate))
        values["noise"] = correlation(found, self._cells(method, self.noisy))
        if self.twin is not None:
            values["two seeds"] = correlation(found, self._cells(method, self.twin))
        some = np.linspace(0, len(found) - 1, min(len(found), n_randomised or len(found))).round().astype(np.intp)
        random: dict[str, NDArray[np.float64]] = {}
        for number in range(NETWORKS):
            turn = some[number::NETWORKS]
            for check, model in randomised(self.trained, seed=self.seed + number) if len(turn) else ():
                others = self._cells(method, replace(self.clean[turn], model=model))
                random.setdefault(check, np.empty(len(some)))[number::NETWORKS] = correlation(found[turn], others)
        random["size of randomised all"] = np.abs(random["randomised all"])
        return pd.concat([self._table(method, values), self._table(method, random, some)], ignore_index=True)

    def _cells(self, method: str, inputs: Inputs) -> Floats:
        return cells(relevance_of(method, inputs)[0][:, 0], inputs.sampling_rate)

    def _dependence(self, orders: Floats) -> dict[str, NDArray[np.float64]]:
        """Return the areas of deletion and insertion of the cells in an order, of the class that is explained."""
        areas = []
        for row, (signal, order) in enumerate(zip(self.clean.millivolts, orders, strict=True)):

            def predict(signals: Floats, row: int = row) -> Floats:
                standardised = signals / self.clean.std[:, None] + self.clean.flat[:, None]
                return expit(self.clean.logits(standardised, np.full(len(signals), row))[:, 0].astype(np.float64))

            areas.append(deletion_and_insertion(predict, signal, order, self.clean.sampling_rate))
        return dict(zip(AREAS, np.transpose(areas), strict=True))

    def _table(
        self, method: str, values: Mapping[str, NDArray[np.float64]], rows: NDArray[np.intp] | None = None
    ) -> pd.DataFrame:
        ids = np.array(self.record_ids)[slice(None) if rows is None else rows]
        tables = [
            pd.DataFrame({"record_id": ids, "method": method, "check": check, "value": found})
            for check, found in values.items()
        ]
        return pd.concat(tables, ignore_index=True)


def prepare_trial(
    predictor: NetworkPredictor,
    ecgs: Sequence[ECG],
    classes: Sequence[str],
    *,
    twin: NetworkPredictor | None = None,
    background: Sequence[ECG] | None = None,
    seed: int = 0,
) -> Trial:
    """Prepare records once for all tests; see `check_records`."""
    random = np.random.default_rng(seed)
    shifted, noisy = [], []
    for ecg in ecgs:
        step = round(SHIFT * ecg.sampling_rate)
        shifted.append(replace(ecg, signal=np.pad(ecg.signal[:, step:], ((0, 0), (0, step)), mode="edge")))
        noise = random.normal(0, NOISE, ecg.signal.shape).astype(np.float32)
        noisy.append(replace(ecg, signal=ecg.signal + noise))
    trained = predictor.trained

    def inputs(model: TrainedModel, records: Sequence[ECG]) -> Inputs:
        return network_inputs(model, records, [[name] for name in classes], background=background, anyway=True)

    return Trial(
        trained=trained,
        record_ids=tuple(ecg.record_id for ecg in ecgs),
        clean=inputs(trained, ecgs),
        shifted=inputs(trained, shifted),
        noisy=inputs(trained, noisy),
        twin=inputs(twin.trained, ecgs) if twin else None,
        seed=seed,
    )


def randomised(trained: TrainedModel, *, seed: int = 0) -> Iterator[tuple[str, ECGModel]]:
    """Replace the layers of a network by untrained ones, one after the other from the last to the first.

    Parameters
    ----------
    trained : TrainedModel
        The network, which is left as it is.
    seed : int, default 0
        Of the untrained weights.

    Yields
    ------
    check : str
        ``"randomised from LAYER"``, for the first layer ``"randomised all"``. A normalisation goes with the layer
        before it.
    model : ECGModel
        The same object each time, with one more layer replaced.

    References
    ----------
    Adebayo et al., "Sanity checks for saliency maps", 2018, arXiv:1810.03292.
    """
    # A training starts from the weights of its own seed, which are small integers, and a head hardly leaves them.
    fresh = trained.untrained(UNUSED_SEEDS + seed).model
    model = deepcopy(trained.model).eval()
    names = layers(model)
    for name in names[::-1]:
        layer = model.get_submodule(name)
        layer.load_state_dict(fresh.get_submodule(name).state_dict())
        is_normalisation = all(parameter.dim() == 1 for parameter in layer.parameters())
        if name == names[0]:
            yield "randomised all", model
        elif not is_normalisation:
            yield f"randomised from {name}", model


def layers(model: nn.Module) -> list[str]:
    """Return the names of the layers with weights, from input to head; a stack of blocks counts as its parts."""
    from torch.nn import ModuleList, Sequential

    names: list[str] = []
    for name, child in model.named_children():
        if not any(True for _ in child.parameters()):
            continue
        is_stack = any(isinstance(one, Sequential | ModuleList) and _has_blocks(one) for one in child.children())
        is_split = not isinstance(model, Sequential | ModuleList) and (
            is_stack or isinstance(child, Sequential | ModuleList)
        )
        names += [f"{name}.{part}" for part in layers(child)] if is_split else [name]
    return names


def _has_blocks(sequence: nn.Module) -> bool:
    return any(any(True for _ in block.children()) for block in sequence.children())


def point_at_signs(
    predictor: NetworkPredictor, demo: Demo, record_ids: Sequence[str], classes: Sequence[str], *, method: str
) -> pd.DataFrame:
    """Play the pointing game on the demo: the most relevant cell should be one in which a sign was planted.

    Parameters
    ----------
    predictor : NetworkPredictor
        The model, which explains as much of the beginning of each record as it reads at once.
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
    ecgs = [demo.read(record_id) for record_id in record_ids]
    ecgs = [replace(ecg, signal=ecg.signal[:, : predictor.n_samples]) for ecg in ecgs]
    inputs = network_inputs(predictor.trained, ecgs, [[name] for name in classes], anyway=True)
    rows = []
    for record_id, relevance in zip(record_ids, relevance_of(method, inputs)[0][:, 0], strict=True):
        signs = np.abs(demo.planted_signs(record_id))[:, : relevance.shape[1]]
        for check, value in zip(("pointing", "chance"), pointing(relevance, signs, demo.sampling_rate), strict=True):
            rows.append((record_id, method, check, value))
    return pd.DataFrame(rows, columns=["record_id", "method", "check", "value"])


def pointing(relevance: Floats, signs: Floats, sampling_rate: float) -> tuple[float, float]:
    """Return 1 if the most relevant cell has a planted sign, else 0, and the share of the cells that have one."""
    planted = cells(signs, sampling_rate)
    is_planted = planted >= PLANTED * planted.max()
    return float(is_planted.flat[np.argmax(cells(relevance, sampling_rate))]), float(is_planted.mean())


def territory(relevance: Floats, leads: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of positive relevance in some leads, divided by their share of the leads: 1 is chance.

    Parameters
    ----------
    relevance : ndarray, shape (records, 12, samples)
        For one class.
    leads : sequence of str
        Names of leads.

    Returns
    -------
    ndarray of float64, shape (records,)
        1 where no relevance is positive.
    """
    positive = relevance.clip(0).sum(axis=2, dtype=np.float64)
    total = positive.sum(axis=1)
    inside = positive[:, [LEADS.index(lead) for lead in leads]].sum(axis=1)
    share = np.where(total > 0, inside / np.where(total > 0, total, 1), len(leads) / len(LEADS))
    return share * len(LEADS) / len(leads)


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
