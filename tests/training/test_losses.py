"""Losses against independent formulas, their limits, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from ecgkit.errors import EcgkitError
from ecgkit.training.augmentation import mix
from ecgkit.training.losses import LOSSES, make_loss

SHARE = torch.tensor([0.5, 0.1, 0.25])


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(64, 3, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(64, 3, generator=generator) < 0.3).double()


def plain(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float(functional.binary_cross_entropy_with_logits(logits, labels))


def test_focal_is_the_formula_of_the_paper() -> None:
    logits, labels = batch()
    p, y = 1 / (1 + np.exp(-logits.numpy())), labels.numpy().astype(bool)
    p_t, alpha_t = np.where(y, p, 1 - p), np.where(y, 0.25, 0.75)
    expected = (-alpha_t * (1 - p_t) ** 2 * np.log(p_t)).mean()
    loss = make_loss("focal", {"alpha": 0.25, "gamma": 2.0}, positive_share=SHARE)
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-9)


def test_asymmetric_is_the_formula_of_the_paper() -> None:
    logits, labels = batch()
    p, y = 1 / (1 + np.exp(-logits.numpy())), labels.numpy().astype(bool)
    p_m = np.maximum(p - 0.05, 0)
    expected = np.where(y, -((1 - p) ** 1.0) * np.log(p), -(p_m**4.0) * np.log(1 - p_m)).mean()
    loss = make_loss("asymmetric", {"gamma_positive": 1.0}, positive_share=SHARE)
    assert float(loss(logits, labels)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "factor"),
    [
        ("focal", {"alpha": 0.5, "gamma": 0.0}, 0.5),
        ("asymmetric", {"gamma_positive": 0.0, "gamma_negative": 0.0, "clip": 0.0}, 1.0),
        ("weighted_bce", {"power": 0.0}, 1.0),
    ],
)
def test_without_its_effect_each_loss_is_cross_entropy(name: str, options: dict[str, float], factor: float) -> None:
    logits, labels = batch()
    loss = make_loss(name, options, positive_share=SHARE.double())
    assert float(loss(logits, labels)) == pytest.approx(factor * plain(logits, labels), rel=1e-6)


def test_class_weights_let_both_sides_of_a_class_weigh_the_same() -> None:
    labels = (torch.arange(1000)[:, None] < (1000 * SHARE)).double()
    logits = torch.zeros(1000, 3, dtype=torch.float64, requires_grad=True)
    make_loss("weighted_bce", {}, positive_share=SHARE.double())(logits, labels).backward()
    pull = logits.grad
    torch.testing.assert_close((pull * labels).sum(0), -(pull * (1 - labels)).sum(0))


def test_a_class_that_training_never_saw_has_no_weight_of_its_own() -> None:
    logits, labels = batch()
    loss = make_loss("weighted_bce", {}, positive_share=torch.tensor([0.5, 0.0, 0.5]).double())
    assert float(loss(logits, labels)) == pytest.approx(plain(logits, labels), rel=1e-9)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "mse"])
def test_a_mixed_label_has_the_mixed_loss(name: str) -> None:
    logits, labels = batch()
    loss = make_loss(name, {}, positive_share=SHARE.double())
    mixed = loss(logits, 0.3 * labels + 0.7 * (1 - labels))
    assert float(mixed) == pytest.approx(float(0.3 * loss(logits, labels) + 0.7 * loss(logits, 1 - labels)), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_sure_and_wrong_stays_finite_and_is_pulled_back(name: str) -> None:
    logits = torch.tensor([[80.0, -80.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[0.0, 1.0, 1.0]])
    value = make_loss(name, {}, positive_share=SHARE)(logits, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 1] < 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hinge", {}, "unknown loss 'hinge': choose one of bce, weighted_bce, focal, asymmetric"),
        ("focal", {"beta": 1.0}, "the loss focal has no option 'beta': choose from alpha, gamma"),
        ("bce", {"gamma": 1.0}, "the loss bce has no option 'gamma': choose from none"),
        ("weighted_bce", {"positive_share": 1.0}, "has no option 'positive_share': choose from power"),
        ("focal", {"alpha": 1.5}, "the loss's option alpha is 1.5: give a number from 0 to 1"),
        ("asymmetric", {"clip": "a"}, "option clip of the loss asymmetric is 'a': .*float"),
    ],
)
def test_what_does_not_fit_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(EcgkitError, match=message):
        make_loss(name, options, positive_share=SHARE)


def test_the_squared_error_is_that_of_standardised_values() -> None:
    loss = make_loss("mse", {}, positive_share=SHARE, mean=60.0, std=10.0)
    outputs = torch.tensor([[0.0], [1.0]])
    assert float(loss(outputs, torch.tensor([[70.0], [70.0]]))) == pytest.approx(0.5)
    assert loss.in_units(outputs).flatten().tolist() == [60.0, 70.0]


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "mse"])
def test_unknown_labels_have_no_loss_and_no_gradient(name: str) -> None:
    logits, labels = batch()
    unknown = torch.rand(64, 3, generator=torch.Generator().manual_seed(1)) < 0.4
    loss = make_loss(name, {}, positive_share=SHARE.double())
    outputs = logits.clone().requires_grad_()
    masked = loss(outputs, labels.masked_fill(unknown, torch.nan))
    # The mean over the known labels, each of which is the loss of a batch of one record and class.
    each = [
        make_loss(name, {}, positive_share=SHARE[[i]].double())(logits[[r]][:, [i]], labels[[r]][:, [i]])
        for r, i in (~unknown).nonzero().tolist()
    ]
    assert masked.item() == pytest.approx(float(torch.stack(each).mean()), rel=1e-9)
    (gradient,) = torch.autograd.grad(masked, outputs)
    assert gradient.isfinite().all()
    assert (gradient[unknown] == 0).all()
    assert float(loss(logits, torch.full_like(labels, torch.nan))) == 0


def test_a_label_mixed_with_an_unknown_one_is_unknown() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, torch.nan], [1.0, 1.0], [0.0, 0.0]])
    _, mixed, _ = mix(torch.zeros(4, 12, 10), labels, None, 1.0, np.random.default_rng(2))
    partners = np.random.default_rng(2)
    partners.beta(1.0, 1.0, 4)
    partner = partners.permutation(4)
    assert mixed[:, 0].isfinite().all()
    np.testing.assert_array_equal(mixed[:, 1].isnan(), [row == 1 or partner[row] == 1 for row in range(4)])
