"""The City's hexagons, which are H3 cells of one resolution, and the cell of any point."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import h3
import numpy as np
import polars as pl
from h3.api import basic_int
from numpy.typing import NDArray

from capetown.city import CELL, RESOLUTION
from capetown.errors import CapetownError
from capetown.requests.csv_reader import NOT_FETCHED

Floats = NDArray[np.float64]
CellNumbers = NDArray[np.uint64]
Positions = NDArray[np.intp]
AGAIN = "fetch it again, or make it as in CONTRIBUTING.md"
CELL_TEXT = re.compile("[0-9a-f]{15}")


@dataclass(frozen=True)
class Hexagons:
    """The City's cells.

    Attributes:
        index: H3 cells as text, in the order of the file.
    """

    index: pl.Series

    @cached_property
    def ascending(self) -> tuple[pl.Series, CellNumbers]:
        """The cells in ascending order, as text and as integers."""
        index = self.index.sort()
        return index, np.array([h3.str_to_int(cell) for cell in index], np.uint64)

    @cached_property
    def rings(self) -> list[Floats]:
        """A closed ring of longitudes and latitudes per cell, in the order of the file.

        Longitudes of a city across 180° are positive, so some exceed 180, and no ring is torn.
        """
        corners = [h3.cell_to_boundary(cell) for cell in self.index]
        rings = [np.array([*ring, ring[0]])[:, ::-1] for ring in corners]
        if np.ptp(np.concatenate(rings)[:, 0]) > 180:
            for ring in rings:
                ring[:, 0] %= 360
        return rings

    def positions(self, cells: CellNumbers) -> Positions:
        """Positions of cells in `ascending`, or -1 for cells outside the City."""
        _, city = self.ascending
        position = np.searchsorted(city, cells).clip(max=len(city) - 1)
        return np.where(city[position] == cells, position, -1)


def read_hexagons(path: Path) -> Hexagons:
    """Read the City's cells; polygons and other properties are ignored.

    Args:
        path: a GeoJSON FeatureCollection whose features have the property `city.CELL`.

    Raises:
        CapetownError: the file cannot be read or has no feature, or an index is not a cell of
            resolution `city.RESOLUTION` or is repeated.
    """
    cells: dict[str, int] = {}
    for number, feature in enumerate(_features(path), 1):
        where = f"{path}: feature {number}"
        try:
            cell = feature["properties"][CELL]
        except (KeyError, TypeError) as error:
            raise CapetownError(
                f"no property {CELL!r}, which names the cell",
                where=where,
                fix=f"correct CELL in city.py, or {AGAIN}",
            ) from error
        if not is_cell(cell):
            raise CapetownError(f"{CELL} {cell!r} is not an H3 cell", where=where, fix=AGAIN)
        if h3.get_resolution(cell) != RESOLUTION:
            raise CapetownError(
                f"{CELL} {cell!r} has resolution {h3.get_resolution(cell)}", where=where,
                fix=f"keep only resolution {RESOLUTION}, or correct RESOLUTION in city.py",
            )  # fmt: skip
        if cell in cells:
            raise CapetownError(
                f"{CELL} {cell!r} is also in feature {cells[cell]}", where=where,
                fix="keep one of them",
            )  # fmt: skip
        cells[cell] = number
    return Hexagons(pl.Series("index", [*cells], pl.String))


def is_cell(text: object) -> bool:
    """True for an H3 cell of any resolution, written in lower case."""
    return isinstance(text, str) and bool(CELL_TEXT.fullmatch(text)) and h3.is_valid_cell(text)


def cells_of(latitude: Floats, longitude: Floats) -> CellNumbers:
    """The H3 cell of each point, as an integer; 0 for coordinates that do not exist.

    Args:
        latitude: degrees, shape (n,).
        longitude: degrees, shape (n,).
    """
    exists = (np.abs(latitude) <= 90) & (np.abs(longitude) <= 180)
    points = latitude[exists].tolist(), longitude[exists].tolist()
    cells = np.zeros(len(latitude), np.uint64)
    cells[exists] = np.fromiter(
        map(basic_int.latlng_to_cell, *points, repeat(RESOLUTION)), np.uint64, len(points[0])
    )
    return cells


def _features(path: Path) -> list[Any]:
    try:
        collection = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CapetownError("no such file", where=path, fix=NOT_FETCHED) from error
    except OSError as error:
        raise CapetownError(f"cannot be read ({error.strerror})", where=path) from error
    except (ValueError, RecursionError) as error:
        raise CapetownError(f"not valid JSON ({error})", where=path, fix=AGAIN) from error
    features = collection.get("features") if isinstance(collection, dict) else None
    if not isinstance(features, list) or not features:
        raise CapetownError("not a GeoJSON FeatureCollection with features", where=path, fix=AGAIN)
    return features
