"""Augmentation changes what it says, by as much as it says."""

from __future__ import annotations

import torch

from ecgkit.training.augmentation import Augmentation


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def signal() -> torch.Tensor:
    return torch.randn(64, 12, 1000, generator=torch.Generator().manual_seed(1))


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(Augmentation(sampling_rate=100)(signal(), generator()), signal())


def test_a_time_shift_rolls_all_leads_of_a_record_alike() -> None:
    before = signal()
    after = Augmentation(sampling_rate=100, time_shift=2.0)(before, generator())
    shifts = []
    for record, shifted in zip(before, after, strict=True):
        fits = [s for s in range(-200, 201) if torch.equal(record.roll(s, dims=1), shifted)]
        assert len(fits) == 1
        shifts += fits
    assert max(shifts) > 100
    assert min(shifts) < -100


def test_amplitude_scales_a_record_as_a_whole() -> None:
    ratio = Augmentation(sampling_rate=100, amplitude=0.1)(signal(), generator()) / signal()
    torch.testing.assert_close(ratio.amax((1, 2)), ratio.amin((1, 2)), rtol=1e-4, atol=1e-4)
    assert 0.9 <= float(ratio.min()) < 0.93
    assert 1.07 < float(ratio.max()) <= 1.1 + 1e-5


def test_lead_dropout_silences_whole_leads_at_the_rate_asked_for() -> None:
    after = Augmentation(sampling_rate=100, lead_dropout=0.25)(signal(), generator())
    silent = (after == 0).all(dim=2)
    assert torch.equal(after[~silent], signal()[~silent])
    assert 0.2 < float(silent.float().mean()) < 0.3


def test_noise_has_the_size_asked_for() -> None:
    added = Augmentation(sampling_rate=100, noise=0.2)(signal(), generator()) - signal()
    assert abs(float(added.std()) - 0.2) < 0.005


def test_baseline_wander_is_slow() -> None:
    added = Augmentation(sampling_rate=100, baseline=1.0)(torch.zeros(32, 12, 6000), generator())
    power = torch.fft.rfft(added).abs().square()
    frequencies = torch.fft.rfftfreq(6000, 1 / 100)
    assert float(power[..., frequencies <= 0.6].sum() / power.sum()) > 0.98
    assert float(added.abs().max()) <= 1.0


def test_the_same_generator_gives_the_same_batch_and_the_input_stays() -> None:
    everything = Augmentation(
        sampling_rate=100, time_shift=5.0, amplitude=0.1, lead_dropout=0.1, noise=0.1, baseline=0.1
    )
    before = signal()
    first, second = everything(before, generator()), everything(before, generator())
    assert torch.equal(first, second)
    assert torch.equal(before, signal())
