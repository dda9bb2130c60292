"""Each augmentation changes what its parameter names, by the amount of the parameter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecgkit.training.augmentation import Augmentation, mix


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


def test_a_crop_is_a_stretch_of_the_record_from_anywhere() -> None:
    before = signal()
    after = Augmentation(sampling_rate=100, crop=250, time_shift=5.0)(before, generator())
    assert after.shape == (64, 12, 250)
    starts = []
    for record, crop in zip(before, after, strict=True):
        fits = [s for s in range(751) if torch.equal(record[:, s : s + 250], crop)]
        assert len(fits) == 1
        starts += fits
    assert min(starts) < 75
    assert max(starts) > 675


def test_a_crop_of_the_whole_record_is_the_record() -> None:
    assert torch.equal(Augmentation(sampling_rate=100, crop=1000)(signal(), generator()), signal())


def test_mixup_mixes_signal_labels_and_metadata_by_the_same_shares() -> None:
    n = 64
    labels = torch.eye(n)  # the labels of a record show which records were mixed
    before, metadata = signal(), torch.randn(n, 4, generator=generator())
    mixed, weights, mixed_metadata = mix(before, labels, metadata, 0.4, np.random.default_rng(0))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(n))
    assert (weights > 0).sum(dim=1).max() == 2
    torch.testing.assert_close(mixed, torch.einsum("mn,nlt->mlt", weights, before), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed_metadata, weights @ metadata, rtol=1e-4, atol=1e-4)


def test_mixup_draws_its_shares_from_a_beta_distribution() -> None:
    rng = np.random.default_rng(0)
    mixtures = [mix(torch.zeros(64, 1, 1), torch.eye(64), None, 0.4, rng)[1].diagonal() for _ in range(200)]
    shares = torch.cat(mixtures).numpy()
    drawn = shares[shares < 1]  # a record that is its own partner has share 1, one in 64
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)
