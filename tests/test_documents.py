"""Commands in documents and hooks are valid."""

import argparse
import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely

from capetown import city
from capetown.requests import hexagons
from tests import ROOT

BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = re.findall(r"^python -m benchmarks\.(\w+) ?(.*)$", BENCHMARKS, flags=re.MULTILINE)
assert COMMANDS


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
