"""pyproject.toml, the lock and the conda environment agree; imports only go down; importing ecgkit is light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import ecgkit
from ecgkit.errors import EXTRAS, EcgkitError, require

ROOT = Path(__file__).resolve().parents[1]

FLOORS = [
    {"errors", "io", "paths", "progress", "signals", "stats", "plots"},
    {"readers", "sources", "datasets", "sessions"},
    {"models"},
    {"inference"},
    {"training", "evaluation", "feature_space", "explain"},
    {"workflow", "cli", "serving"},
]
HEAVY = {"torch", "pandas", "lightning", "umap", "matplotlib", "xlstm", "sklearn", "papermill", "optuna"}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pins}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def extra(name: str) -> list[str]:
    """Give the requirements of an extra, with those of the extras that it names."""
    found = []
    for line in project()["optional-dependencies"][name]:
        requirement = Requirement(line)
        own = requirement.name == project()["name"]
        found += [item for part in sorted(requirement.extras) for item in extra(part)] if own else [line]
    return found


def test_every_line_of_the_lock_is_a_pin() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert locked()["torch"] == "2.13.0"


def test_the_lock_satisfies_what_the_project_asks_for() -> None:
    for requirement in map(Requirement, project()["dependencies"] + extra("dev")):
        assert requirement.specifier.contains(locked()[requirement.name.lower()]), requirement


def test_everything_that_is_installed_apart_from_tools_is_in_the_extra_all() -> None:
    extras = set(project()["optional-dependencies"]) - {"all", "dev", "docs"}
    assert {name for extra_name in extras for name in extra(extra_name)} == set(extra("all"))


def test_the_table_of_extras_names_the_extra_that_installs_each_package() -> None:
    distributions = {"sklearn": "scikit-learn", "umap": "umap-learn", "jupyter_client": "jupyter-client"}
    for package, name in EXTRAS.items():
        assert distributions.get(package, package) in {Requirement(line).name for line in extra(name)}


@pytest.mark.parametrize(("package", "name"), sorted(EXTRAS.items()))
def test_a_missing_package_is_one_line_with_the_extra_that_installs_it(
    package: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EcgkitError, match=rf'{package} .*"ecgkit-notebooks\[{name}\]"'):
        require(package, name)


def test_conda_installs_the_lock_and_the_project() -> None:
    lines = [line.strip().removeprefix("- ") for line in (ROOT / "environment.yml").read_text().splitlines()]
    python = next(line for line in lines if line.startswith("python=")).removeprefix("python=")
    assert SpecifierSet(project()["requires-python"]).contains(python)
    assert lines[lines.index("pip:") :] == ["pip:", "--requirement requirements.lock", "--editable ."]
    assert f'python_version = "{python}"' in (ROOT / "pyproject.toml").read_text()


def room(module: str) -> str:
    return module.removeprefix("ecgkit.").split(".")[0]


def imports(path: Path) -> set[str]:
    """Give the modules of ecgkit that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ecgkit":
            found |= {f"ecgkit.{alias.name}" for alias in node.names if not alias.name.startswith("_")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ecgkit."):
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "ecgkit").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    here = path.relative_to(ROOT / "ecgkit").with_suffix("").parts[0]
    if here in ("__init__", "__main__"):
        return
    for module in imports(path):
        assert floor[room(module)] <= floor[here], f"{path} imports {module}"


def test_importing_ecgkit_loads_nothing_heavy() -> None:
    code = f"import ecgkit, sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_floor_of_files_loads_no_torch() -> None:
    rooms = ("datasets", "sources", "sessions", "cli")
    code = f"import sys, {', '.join(f'ecgkit.{name}' for name in rooms)}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


BASE = """
import sys
from ecgkit.errors import EXTRAS
sys.modules.update(dict.fromkeys(EXTRAS))  # as if none of the extras were installed
import ecgkit
from ecgkit.plots import plot_ecg
from ecgkit.readers import wfdb
from ecgkit.sources.demo import Demo
demo = Demo(n_records=50, sampling_rate=500)
ecg = demo.read(demo.records["record_id"][0])
plot_ecg(ecg.signal, sampling_rate=500)
print(ecgkit.load_model("resnet1d").predict_proba(ecg.signal[None], sampling_rate=500).shape)
"""


@pytest.mark.skipif(not hasattr(ecgkit, "list_models"), reason="ecgkit.list_models is missing")
def test_the_base_installation_reads_predicts_and_draws() -> None:
    result = subprocess.run([sys.executable, "-c", BASE], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(1, 5)", result.stderr
