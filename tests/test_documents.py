"""Commands, links and lengths of documents are valid, and so are hooks."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import yaml
from markdown_it import MarkdownIt

from capetown import city, cli
from capetown.requests import hexagons
from tests import ROOT

BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = re.findall(r"^python -m benchmarks\.(\w+) ?(.*)$", BENCHMARKS, flags=re.MULTILINE)
assert COMMANDS
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Most words of a document.
LENGTHS = {"README.md": 700, "benchmarks/README.md": 1500, "CHANGELOG.md": 220}


def tracked() -> list[Path]:
    """The Markdown files of the repository."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def links(file: Path) -> list[str]:
    """The targets of links and images."""
    tokens = MarkdownIt("commonmark").enable("table").parse(file.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or []]
    return [str(t.attrs.get("href") or t.attrs.get("src") or "") for t in inline if t.attrs]


def anchors(file: Path) -> set[str]:
    """The anchors that Git hosts give to headings."""
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def commands(file: Path) -> list[list[str]]:
    """The words of each command in the blocks of shell code."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_links_lead_to_files_and_headings() -> None:
    dead = []
    for file in tracked():
        for link in links(file):
            name, _, anchor = link.partition("#")
            target = file.parent / name if name else file
            if re.match(r"[a-z]+:", link):
                continue
            if not target.exists() or (anchor and anchor not in anchors(target)):
                dead.append(f"{file.relative_to(ROOT)}: {link}")
    assert dead == []


def test_documents_are_short() -> None:
    limits = LENGTHS | {f"docs/{file.name}": 700 for file in (ROOT / "docs").glob("*.md")}
    words = {name: len((ROOT / name).read_text(encoding="utf-8").split()) for name in limits}
    assert {name: count for name, count in words.items() if count > limits[name]} == {}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_documented_commands_name_what_exists(file: Path) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, *words in commands(file):
        if program == "capetown":
            cli.parser().parse_args(words)
        elif program == "make":
            assert set(words) <= set(targets)
        elif program == "python" and words[0] == "-m":
            assert (ROOT / words[1].replace(".", "/")).exists() or import_module(words[1])
        elif program == "dvc" and (words[:2] == ["exp", "run"] or words[0] == "repro"):
            after = words[2:] if words[0] == "exp" else words[1:]
            changes = [word for word in after if "=" in word and not word.startswith("-")]
            for key, value in (change.split("=", 1) for change in changes):
                section: Any = params
                for name in key.split("."):
                    assert name in section, f"{key}={value}"
                    section = section[name]
            if "-n" in after:
                del after[after.index("-n") + 1]
            named = [word for word in after if not word.startswith("-") and word not in changes]
            assert set(named) <= set(stages), words


def test_the_guide_for_contributors_names_existing_files() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    where = text.partition("## Where things are")[2].partition("\nGit ignores")[0]
    rows = re.findall(r"^\| (.*?) \|", where, flags=re.MULTILINE)
    named = [name for row in rows[1:] for name in re.findall("`(.*?)`", row)]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_a_benchmark_accepts_its_documented_command(
    module: str, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: argparse.ArgumentParser, *given: Any) -> None:
        parse(parser, *given)
        sys.exit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    monkeypatch.setattr(sys, "argv", [module, *shlex.split(arguments)])
    with pytest.raises(SystemExit) as left:
        import_module(f"benchmarks.{module}").main()
    assert left.value.code == 0


def test_the_hooks_name_existing_files() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    named = re.findall(r"\btests/\S+", hooks)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("resolution", "least", "most"), [(8, 120, 190), (9, 850, 1150)])
def test_the_recipes_make_the_hexagons_of_a_city(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolution: int, least: int, most: int
) -> None:
    """From a boundary or points, all that touch it. The boundary has two parts that touch."""
    monkeypatch.chdir(tmp_path)
    for module in (city, hexagons):
        monkeypatch.setattr(module, "RESOLUTION", resolution)
    west, south, east, north = 18.4, -34.0, 18.5, -33.9
    halves = [shapely.box(west, south, 18.45, north), shapely.box(18.45, south, east, north)]
    both = shapely.geometry.mapping(shapely.MultiPolygon(halves))
    Path("boundary.geojson").write_text(json.dumps(both))
    points = np.random.default_rng(1).uniform((west, south), (east, north), (2000, 2))
    points[0] = 0
    table = pd.DataFrame(points, columns=[city.LONGITUDE, city.LATITUDE])
    table.to_csv(city.REQUESTS_TABLE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe, outline = re.findall(r"```python\n(.*?)```", contributing, flags=re.DOTALL)
    by_boundary = re.compile("^boundary = .*$", re.MULTILINE)
    for code in (recipe, by_boundary.sub(lambda _: outline, recipe)):
        exec(code, {})
        found = hexagons.read_hexagons(Path(city.HEXAGONS_FILE))
        assert (found.positions(hexagons.cells_of(*points[1:].T[::-1])) >= 0).all()
        assert least < len(found.index) < most
        Path(city.HEXAGONS_FILE).unlink()
