"""What the notebook of a training or a pretraining would refuse is refused before a session is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from ecgkit import paths
from ecgkit.cli import main
from ecgkit.errors import EcgkitError
from ecgkit.workflow import STEPS


@pytest.mark.parametrize(
    ("step", "settings", "named"),
    [
        ("train", {"model": "cnn", "model_options": {"foo": 1}}, "'foo'.*widths, kernel_sizes"),
        ("train", {"model": "cnn", "model_options": {"pool": "a"}}, "pool of cnn is 'a'.*int"),
        ("train", {"model": "cnn", "model_options": {"pool": 0}}, "pool of cnn is 0"),
        ("train", {"model": "cnn", "model_options": {"kernel_sizes": [3]}}, r"kernel_sizes \[3\]"),
        ("train", {"model": "resnet1d", "model_options": {"kernel_size": 4}}, r"kernel_size 4 \(default: 5\)"),
        ("train", {"model": "resnet1d", "model_options": {"pooling": "max"}}, "'max'.*mean_max, attention"),
        ("train", {"model": "xlstm", "model_options": {"n_heads": 3}}, "n_heads is 3"),
        ("train", {"model": "hybrid", "model_options": {"widths": []}}, r"widths \[\]"),
        ("train", {"model": "cnn", "min_records": 10**6}, "1000000"),
        ("pretrain", {"model_options": {"depth": 0}}, "depth of token_encoder is 0"),
        ("pretrain", {"model_options": {"width": 100, "n_heads": 4}}, r"width 100 \(default: 192\)"),
    ],
)
def test_what_cannot_be_trained_is_refused(demo_root: Path, step: str, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(EcgkitError, match=named):
        STEPS[step].resolve(demo_root, {"dataset": "demo"} | settings)


def test_soft_labels_of_other_records_are_refused(demo_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "soft.parquet"
    classes = dict.fromkeys(("NORM", "MI", "STTC", "CD", "HYP"), 0.5)
    pd.DataFrame([{"record_id": "none of these", "fold": 1} | classes]).to_parquet(file)
    with pytest.raises(EcgkitError, match=r"soft\.parquet"):
        STEPS["train"].resolve(demo_root, {"dataset": "demo", "model": "cnn", "distill": str(file)})


def test_a_target_of_too_few_records_is_refused(demo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgkit.training.targets.MIN_RECORDS", 10**6)
    with pytest.raises(EcgkitError, match="height is known for"):
        STEPS["train"].resolve(demo_root, {"dataset": "demo", "model": "cnn", "target": "height"})


@pytest.mark.parametrize(
    ("command", "option"), [(["train", "demo", "--model", "cnn"], "pool"), (["pretrain", "demo"], "depth")]
)
def test_the_command_ends_with_one_line_and_makes_no_session(
    demo_root: Path, command: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--model-options", f"{option}=0", "--root", str(demo_root)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in demo_root.iterdir()] == [paths.PROCESSED]


def test_a_check_leaves_the_random_numbers_as_they_are(demo_root: Path) -> None:
    before = torch.get_rng_state()
    STEPS["train"].resolve(demo_root, {"dataset": "demo", "model": "cnn"})
    assert torch.equal(torch.get_rng_state(), before)
