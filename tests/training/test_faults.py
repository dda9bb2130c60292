"""Faults planted in training: each does what it says, in the records it should, within Einthoven's law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import freqz

from ecgkit.errors import EcgkitError
from ecgkit.training.config import TrainingConfig
from ecgkit.training.faults import FAULTS, LOW_PASS, Faults

STD = np.linspace(0.1, 0.3, 12)


def signals(records: int = 200, samples: int = 250) -> torch.Tensor:
    return torch.randn(records, 12, samples, generator=torch.Generator().manual_seed(1))


def plant(probabilities: dict[str, float], signal: torch.Tensor, rate: int = 100, seed: int = 0) -> torch.Tensor:
    before = signal.clone()
    after = Faults(probabilities, rate, STD)(signal, torch.Generator().manual_seed(seed))
    assert torch.equal(signal, before)
    return after


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_planted_in_the_share_of_records_that_was_asked_for(name: str) -> None:
    before = signals()
    after = plant({name: 0.25}, before)
    changed = (after != before).flatten(1).any(dim=1)
    assert 0.15 < float(changed.float().mean()) < 0.35
    assert torch.isfinite(after).all()
    assert torch.equal(plant({name: 0.0}, before), before)
    assert torch.equal(plant({name: 0.25}, before), after)


@pytest.mark.parametrize("name", ["offset", "wander", "hum"])
def test_what_comes_from_an_electrode_obeys_einthoven(name: str) -> None:
    added = (plant({name: 1.0}, torch.zeros(50, 12, 250)).numpy() * STD[:, None]).astype(np.float64)
    one, two, three, avr, avl, avf = added[:, :6].swapaxes(0, 1)
    np.testing.assert_allclose(one + three, two, atol=1e-5)
    np.testing.assert_allclose(avr, -(one + two) / 2, atol=1e-5)
    np.testing.assert_allclose(avl, (one - three) / 2, atol=1e-5)
    np.testing.assert_allclose(avf, (two + three) / 2, atol=1e-5)
    assert np.ptp(added[:, 6:], axis=1).max() > 0.1  # the chest leads differ from each other


def test_wander_is_slow_and_hum_is_at_the_frequency_of_the_mains() -> None:
    frequencies = torch.fft.rfftfreq(5000, 1 / 500)
    spectra = {
        name: torch.fft.rfft(plant({name: 1.0}, torch.zeros(40, 12, 5000), rate=500)).abs().square().sum(dim=1)
        for name in ("wander", "hum")
    }
    assert float(spectra["wander"][:, frequencies <= 0.6].sum() / spectra["wander"].sum()) > 0.98
    assert set(frequencies[spectra["hum"].argmax(dim=1)].tolist()) == {50.0, 60.0}


def test_one_lead_is_flat_or_a_group_of_neighbours() -> None:
    flat = (plant({"lead": 1.0}, signals()) == 0).all(dim=2)
    assert (flat.sum(dim=1) == 1).all()
    assert flat.any(dim=0).all()
    flat = (plant({"leads": 1.0}, signals()) == 0).all(dim=2)
    limb = flat[:, :6].all(dim=1)
    assert 0.15 < float(limb.float().mean()) < 0.35
    assert not flat[~limb, :6].any()
    assert not flat[limb, 6:].any()
    for row in flat[~limb, 6:].int():
        assert (row.diff() == 1).sum() + row[0] == 1  # one run


def test_a_gap_becomes_a_straight_line_between_its_neighbours() -> None:
    before = signals()
    after = plant({"gap": 1.0}, before)
    changed = after != before
    for record, lead in changed.any(dim=2).nonzero().tolist():
        (where,) = np.nonzero(changed[record, lead].numpy())
        first, last = where[0], where[-1]
        assert last - first + 1 <= 100
        known = np.r_[0:first, last + 1 : 250]
        expected = np.interp(np.arange(first, last + 1), known, before[record, lead].numpy()[known])
        np.testing.assert_allclose(after[record, lead, first : last + 1].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("rate", [100, 500])
def test_the_low_pass_halves_the_amplitude_at_40_hz(rate: int) -> None:
    impulse = torch.zeros(1, 12, 4 * rate)
    impulse[..., 2 * rate] = 1
    response = plant({"low_pass": 1.0}, impulse, rate=rate)[0, 0].double().numpy()
    gain = np.abs(freqz(response, worN=[1.0, 20.0, LOW_PASS, 48.0], fs=rate)[1])
    np.testing.assert_allclose(gain[:3], [1, 1, 0.5], atol=0.03)
    assert gain[3] < 0.2


def test_a_rate_without_40_hz_has_nothing_to_remove() -> None:
    assert torch.equal(plant({"low_pass": 1.0}, signals(), rate=80), signals())


@pytest.mark.parametrize("wrong", [{"wandre": 0.1}, {"wander": 1.5}, {"wander": -0.1}, {"wander": True}])
def test_a_fault_without_a_probability_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(EcgkitError, match=next(iter(wrong))):
        TrainingConfig(dataset="demo", model="cnn", robustness=wrong)
