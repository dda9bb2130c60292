"""A model made for crops reads a longer record in overlapping windows and averages their features."""

from __future__ import annotations

import pytest
import torch

from ecgkit.models import create_model
from ecgkit.models.base import cut_windows

SHAPE = {"n_leads": 12, "n_classes": 5, "sampling_rate": 100}


@pytest.mark.parametrize(("samples", "length"), [(1000, 250), (1000, 400), (1000, 999), (1000, 1000), (5000, 1250)])
def test_windows_cover_the_record_and_overlap_by_half(samples: int, length: int) -> None:
    windows = cut_windows(torch.arange(samples).expand(2, 12, samples), length)
    starts = windows[0, :, 0, 0]
    assert starts[0] == 0
    assert starts[-1] == samples - length
    assert (starts.diff() <= length // 2 + 1).all()
    assert (starts.diff() > 0).all()
    expected = starts[:, None] + torch.arange(length)
    assert torch.equal(windows, expected[None, :, None, :].expand(2, -1, 12, -1))


def test_ten_seconds_are_seven_windows_of_two_and_a_half() -> None:
    assert cut_windows(torch.zeros(1, 12, 1000), 250).shape[1] == 7


def test_the_logits_of_a_record_are_the_mean_over_its_windows() -> None:
    torch.manual_seed(0)
    model = create_model("resnet1d", **SHAPE, n_samples=250).eval()
    signal = torch.randn(3, 12, 1000)
    one_by_one = torch.stack([model(signal[..., start : start + 250]) for start in range(0, 751, 125)])
    torch.testing.assert_close(model(signal), one_by_one.mean(0), rtol=1e-4, atol=1e-5)
    assert model.embed(signal).shape == (3, model.n_features)
