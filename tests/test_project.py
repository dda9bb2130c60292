"""pyproject.toml, the lock and the conda environment agree; imports only go down; importing ecgkit is light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from audit import verdict
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ecgkit import paths
from ecgkit.errors import EXTRAS, EcgkitError, require

ROOT = Path(__file__).resolve().parents[1]
HASHES = (ROOT / "requirements.hashes").read_text()

LAYERS = [
    {"errors", "io", "lazy", "paths", "processes", "progress"},
    {"signals", "stats"},
    {"plots"},
    {"cluster", "readers", "sources", "datasets", "sessions"},
    {"models"},
    {"inference"},
    {"training"},
    {"evaluation"},
    {"feature_space"},
    {"explain"},
    {"diagnosis"},
    {"workflow"},
    {"cli", "serving", "__main__"},
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


def test_the_base_installation_is_what_the_package_imports() -> None:
    trees = [ast.parse(path.read_text()) for path in MODULES.values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {Requirement(line).name for line in project()["dependencies"]} <= {name.split(".")[0] for name in names}


def test_everything_that_is_installed_apart_from_tools_is_in_the_extra_all() -> None:
    extras = set(project()["optional-dependencies"]) - {"all", "dev", "docs"}
    assert {name for extra_name in extras for name in extra(extra_name)} == set(extra("all"))


def test_the_table_of_extras_names_the_extra_that_installs_each_package() -> None:
    distributions = {
        "sklearn": "scikit-learn",
        "umap": "umap-learn",
        "jupyter_client": "jupyter-client",
        "python_multipart": "python-multipart",
        "prometheus_client": "prometheus-client",
    }
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


PACKAGE = ROOT / "ecgkit"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def type_checking_only(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes that a type checker sees and an interpreter does not."""
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {inner for block in blocks for inner in ast.walk(block)}


def imports(path: Path) -> set[str]:
    """Return the modules of ecgkit that a file imports, wherever in the file."""
    tree = ast.parse(path.read_text())
    found, unseen = set(), type_checking_only(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ecgkit" and node not in unseen:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


# The names of `ecgkit` itself are imported on first use from whichever layer has them.
GRAPH = {name: imports(path) - {name, "ecgkit"} for name, path in MODULES.items() if name != "ecgkit"}


def layer_of(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module.split(".")[1] in names)


@pytest.mark.parametrize("module", GRAPH)
def test_imports_only_go_down(module: str) -> None:
    for imported in GRAPH[module]:
        if imported.split(".")[1] != module.split(".")[1]:
            assert layer_of(imported) <= layer_of(module), f"{module} imports {imported}"


def test_plots_import_signals_and_stats_only() -> None:
    allowed = {"plots", "signals", "stats", "errors", "io"}
    imported = {found for module in GRAPH if module.split(".")[1] == "plots" for found in GRAPH[module]}
    assert {found.split(".")[1] for found in imported} <= allowed


def circle_from(module: str, path: tuple[str, ...], finished: set[str]) -> tuple[str, ...]:
    """Return a circle of imports that can be reached from a module; empty without one."""
    if module in path:
        return (*path[path.index(module) :], module)
    for imported in () if module in finished else sorted(GRAPH.get(module, ())):
        if circle := circle_from(imported, (*path, module), finished):
            return circle
    finished.add(module)
    return ()


def test_no_modules_import_each_other_in_a_circle() -> None:
    finished: set[str] = set()
    for module in GRAPH:
        assert circle_from(module, (), finished) == ()


def test_importing_ecgkit_loads_nothing_heavy() -> None:
    code = f"import ecgkit, sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["ecgkit", "ecgkit.datasets", "ecgkit.evaluation", "ecgkit.models", "ecgkit.training"])
def test_the_names_that_a_type_checker_reads_in_a_package_are_those_that_python_imports(name: str) -> None:
    package, seen = importlib.import_module(name), type_checking_only(ast.parse(MODULES[name].read_text()))
    modules = {alias.name: node.module for node in seen if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert modules
    assert modules.keys() <= set(dir(package)) == set(getattr(package, "__all__", modules))
    for item, module in modules.items():
        assert getattr(package, item) is getattr(importlib.import_module(module), item)
    assert not hasattr(package, "no_such_name")


def test_the_command_handles_ctrl_c_before_it_imports_what_takes_time() -> None:
    program = "import sys, ecgkit.cli; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


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


def test_the_base_installation_reads_predicts_and_draws() -> None:
    result = subprocess.run([sys.executable, "-c", BASE], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(1, 5)", result.stderr


def test_every_locked_version_but_torch_which_has_several_builds_has_checksums() -> None:
    pins = re.findall(r"^([\w.-]+==\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    hashed = re.findall(r"^([\w.-]+==\S+) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", HASHES, re.MULTILINE)
    names = [{re.sub(r"[-_.]+", "-", pin).lower() for pin in found} for found in (pins, [pin for pin, _ in hashed])]
    assert {name for name in names[0] if not name.startswith("torch==")} == names[1]
    assert HASHES.count("==") == len(pins) - 1


@pytest.mark.parametrize(
    ("output", "code", "named"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "1 packages compared, 0 advisories"),
        ('{"dependencies": [{"name": "a", "skip_reason": "x"}]}', 0, "nothing was compared"),
        ("no connection", 0, "nothing was compared"),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}',
            1,
            "a 1: X-1, fixed in 2",
        ),
    ],
)
def test_an_advisory_fails_and_no_advisory_service_is_said(output: str, code: int, named: str) -> None:
    found, lines = verdict(output)
    assert found == code
    assert any(named in line for line in lines)


def test_what_the_commands_write_is_not_in_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"/{name}/" for name in (paths.RAW, paths.PROCESSED, *paths.SESSION_KINDS)} <= set(ignored)
