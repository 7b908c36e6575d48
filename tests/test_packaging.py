"""Every imported package is declared and pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"capetown", "stages", "tools", "tests", "benchmarks"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    return {normalised(re.split(r"[\[<>=!~; ]", r, maxsplit=1)[0]) for r in requirements}


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("folder", ["src", "stages", "tools", "tests", "benchmarks"])
def test_every_imported_package_is_declared(folder: str) -> None:
    declared = names_of(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    for extra in set(extras) - ({"dev"} if folder in ("src", "stages") else set()):
        declared |= names_of(extras[extra])
    distributions = packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in set(imported(path)) - OURS - sys.stdlib_module_names
        if not {normalised(d) for d in distributions.get(name, [])} & declared
    }
    assert missing == set()


def test_every_declared_package_is_pinned_within_its_bounds() -> None:
    lines = (ROOT / "requirements.lock").read_text().split()
    pins = {normalised(name): version for name, version in (line.split("==") for line in lines)}
    extras = PROJECT["optional-dependencies"].values()
    for text in (*PROJECT["dependencies"], *(r for extra in extras for r in extra)):
        declared = Requirement(text)
        assert declared.specifier.contains(pins[normalised(declared.name)]), text
