"""Mutated recipes, configurations, spaces and sweeps are read, or refused with one line: nothing else is raised."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ecgkit import paths
from ecgkit.errors import EcgkitError
from ecgkit.io import toml_value
from ecgkit.sessions import Session
from ecgkit.training.config import RECIPES, configure, recorded_config
from ecgkit.workflow.space import DEFAULT, read_space
from ecgkit.workflow.sweep import check_sweep, read_sweep

VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        10**30,
        -(10**400),
        0.0,
        -0.5,
        1e308,
        5e-324,
        "",
        "x",
        "1",
        "nan",
        "auto",
        "\x00",
    ),
    *(
        "\x1b[2J",
        "../..",
        "e" * 10_000,
        "resnet1d",
        "age",
        "bce",
        "cuda",
        [],
        [1],
        [[]],
        ["a", 1],
        {},
        {"a": 1},
        {"": {}},
    ),
)
DEEP = ["[" * 40 + "]" * 40, "[" * 20_000]
SWEEP = {"dataset": "demo", "model": "cnn", "epochs": 1, "grid": {"seed": [0, 1]}, "run": [{"learning_rate": 0.01}]}


def to_toml(data: dict[str, Any]) -> str:
    """Write tables as TOML on one line each, whatever their keys are."""
    kept = {name: value for name, value in data.items() if value is not None}
    return "".join(f"{json.dumps(name)} = {toml_value(value)}\n" for name, value in kept.items())


def mutated(data: Any, rng: random.Random) -> Any:
    """Replace a value somewhere in JSON data, leave a key out, or add one."""
    if isinstance(data, dict) and data and rng.random() < 0.85:
        key = rng.choice(list(data))
        rest = {name: value for name, value in data.items() if name != key}
        choice = rng.random()
        if choice < 0.1:
            return rest
        if choice < 0.2:
            return data | {rng.choice(["", "x", "\x1b", "epochs", "grid", "run", "a.b", "é"]): rng.choice(VALUES)}
        return data | {key: mutated(data[key], rng)}
    if isinstance(data, list) and data and rng.random() < 0.7:
        place = rng.randrange(len(data))
        return [*data[:place], mutated(data[place], rng), *data[place + 1 :]]
    return rng.choice(VALUES)


def table(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return mutated data that are still a table."""
    found = mutated(data, rng)
    return found if isinstance(found, dict) else {}


def noise(text: str, rng: random.Random) -> bytes:
    """Return a text, in one of four cases with some of its bytes changed, cut off or nested deep."""
    data = bytearray(text.encode())
    case = rng.randrange(12)
    if case == 0 and data:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif case == 1 and data:
        del data[rng.randrange(len(data)) :]
    elif case == 2:
        data += f"\nz = {rng.choice(DEEP)}".encode()
    return bytes(data)


def recipe(folder: Path, rng: random.Random) -> None:
    """Read a mutated recipe."""
    model = rng.choice(sorted(path.stem for path in RECIPES.glob("*.toml")))
    data = tomllib.loads((RECIPES / f"{model}.toml").read_text())
    (folder / "recipe.toml").write_bytes(noise(to_toml(table(data, rng)), rng))
    configure(dataset="demo", model=model, source="demo", recipe=folder / "recipe.toml")


def configuration(folder: Path, rng: random.Random) -> None:
    """Read a mutated ``config.json``."""
    model = rng.choice(["cnn", "resnet1d", "xlstm", "hybrid"])
    data = asdict(configure(dataset="demo", model=model)) | {"dataset_fingerprint": "abc"}
    (folder / "config.json").write_bytes(noise(json.dumps(mutated(data, rng)), rng))
    recorded_config(Session(folder))


def space(folder: Path, rng: random.Random) -> None:
    """Read a mutated space of a search."""
    data = tomllib.loads(DEFAULT.read_text())
    (folder / "space.toml").write_bytes(noise(to_toml(table(data, rng)), rng))
    read_space(configure(dataset="demo", model="cnn"), folder / "space.toml")


def sweep(folder: Path, rng: random.Random) -> None:
    """Read a mutated sweep, and resolve its runs."""
    (folder / "sweep.toml").write_bytes(noise(to_toml(table(SWEEP, rng)), rng))
    check_sweep(read_sweep(folder / "sweep.toml"), folder, test=False)


TARGETS: tuple[Callable[[Path, random.Random], None], ...] = (recipe, configuration, space, sweep)


def run(folder: Path, seed: int) -> None:
    """Try one mutation; an error has to be one line that a terminal can show, and to name the file."""
    rng = random.Random(seed)  # noqa: S311 - a test
    target = TARGETS[seed % len(TARGETS)]
    try:
        target(folder, rng)
    except EcgkitError as error:
        text = str(error)
        assert "\n" not in text, (seed, text)
        assert len(text) < 2_000, (seed, text)
    except Exception as error:
        raise AssertionError(f"seed {seed}, {target.__name__}: {type(error).__name__}: {error}") from error


@pytest.fixture
def folder(tmp_path: Path, demo_root: Path) -> Path:
    """Return a root with a processed dataset."""
    (tmp_path / paths.PROCESSED).mkdir()
    (tmp_path / paths.PROCESSED / "demo").symlink_to(demo_root / paths.PROCESSED / "demo")
    return tmp_path


def test_a_sample_of_mutations(folder: Path) -> None:
    for seed in range(400):
        run(folder, seed)


@pytest.mark.slow
def test_ten_thousand_mutations(folder: Path) -> None:
    for seed in range(10_000):
        run(folder, seed)
