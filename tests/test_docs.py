"""README and docs: their Python blocks run, their commands exist, and those of the README do what they say."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml

from ecgkit.cli.command import make_parser
from ecgkit.inference.model_folder import SHIPPED, shipped

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="(?P<name>[^"]+)"')
SMALL = {"preprocess": ["--source-options", "n_records=300"]}
"""What the test adds to a command of the README, so that it ends soon."""


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Give the info line and the body of each block of some languages."""
    found = [(block["info"], block["body"]) for block in BLOCK.finditer(page.read_text())]
    return [(info, body) for info, body in found if (info.split() or [""])[0] in languages]


def write_titled(page: Path, folder: Path) -> None:
    """Write the blocks that have a file name into a folder."""
    for info, body in blocks(page, "python", "toml"):
        if title := TITLE.search(info):
            (folder / title["name"]).write_text(body)


def commands(page: Path) -> list[list[str]]:
    """Give the calls of ecgkit in a page's blocks, without comments and without the program's name."""
    lines = [line.split("#")[0].split() for _, body in blocks(page, "", "bash", "sh") for line in body.splitlines()]
    return [words[1:] for words in lines if words and re.fullmatch(r"(\S*[/\\])?ecgkit", words[0]) and words[1:]]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_the_python_blocks_of_a_page_run_in_their_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_titled(page, tmp_path)
    (tmp_path / "page.py").write_text("\n".join(body for _, body in blocks(page, "python")))
    runpy.run_path(str(tmp_path / "page.py"))
    plt.close("all")


CALLS = sorted({(name(page), " ".join(words)) for page in PAGES for words in commands(page)})


@pytest.mark.parametrize(("page", "call"), CALLS)
def test_every_command_that_a_page_shows_can_be_parsed(page: str, call: str) -> None:
    without_classes = re.sub(r"--class \S+", "", call)  # MI is the name of a class
    placeholder = re.search(r"\b[A-Z]{2,}\b|\[|\.\.\.", without_classes)
    assert placeholder is None, f"{page} shows a command that cannot be typed: {call}"
    assert make_parser().parse_args(call.split()).command in call


def test_the_readme_shows_commands_and_python() -> None:
    assert len(commands(ROOT / "README.md")) >= 8
    assert len(blocks(ROOT / "README.md", "python")) >= 1
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("README.md", ["training_sessions/session_2/DONE", "my_model/weights/best.safetensors"]),
        ("docs/howto/own_architecture.md", ["training_sessions/session_1/DONE"]),
    ],
)
def test_the_commands_of_a_page_do_what_they_say_as_typed(page: str, made: list[str], tmp_path: Path) -> None:
    write_titled(ROOT / page, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    script = Path(sys.executable).parent / "ecgkit"
    for words in [words for words in commands(ROOT / page) if "ptbxl" not in words]:
        call = [str(script), *words, *SMALL.get(words[0], []), "--root", str(tmp_path)]
        result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert result.returncode == 0, f"{' '.join(words)}: {result.stdout[-2000:]} {result.stderr[-2000:]}"
    assert [path for path in made if not (tmp_path / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:ecgkit|tests|docs|notebooks)/[a-z0-9_/.]+\.[a-z]+)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_a_row_about_a_model_that_ships_has_the_interval_of_its_metrics(page: str) -> None:
    text = (ROOT / page).read_text()
    rows = re.findall(r"^\| ([^|\n]*ships[^|\n]*)\|(.*)$", text, re.MULTILINE)
    if table := re.search(r"^## Models that ship\n\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE):
        rows += re.findall(r"^\| (`[^|\n]*)\|(.*)$", table[1], re.MULTILINE)
        assert {label.strip(" `") for label, _ in rows} >= set(shipped())
    assert len(rows) >= 4
    for label, numbers in rows:
        named = re.search(r"ships as `(\w+)`", label) or re.search(r"`(\w+)`", label)
        auc = json.loads((SHIPPED / named[1] / "metrics.json").read_text())["fold_10"]["macro"]["auc"]
        shown = [f"{auc['low']:.{digits}f} to {auc['high']:.{digits}f}" for digits in (3, 4)]
        assert any(interval in numbers for interval in shown), f"{page}: {label} has {shown[1]}"


def test_every_room_has_a_page_of_the_reference() -> None:
    rooms = {path.parent.name for path in (ROOT / "ecgkit").glob("*/__init__.py")}
    pages = {path.stem for path in (ROOT / "docs" / "api").glob("*.md")} - {"ecgkit"}
    assert rooms - {"cli"} == pages, "add docs/api/ROOM.md and its line in mkdocs.yml"


def test_the_citation_names_the_version_and_the_licence_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project
