"""Locations of requests: a map of where people live and work.

Suburbs are round clouds of points at their true positions; what falls outside the City or in
cells where hardly anyone lives (sea, mountain, farmland) is drawn again.
"""

from dataclasses import dataclass
from importlib.resources import files

import h3
import numpy as np
import polars as pl
from numpy.typing import NDArray

from capetown.city import RESOLUTION
from tools.synthetic.hexagons import DEGREE, city_cells

# How many of the City's cells had any request in 2020.
INHABITED = 2082
# Spread of the natural logarithm of a cell's people about what the distance to suburbs says.
ROUGHNESS = 1.3
# Decimals of a place's coordinates, and the share of places that have so many: as in the City's
# table, which comes from several systems, most of them of the cadastre.
DECIMALS = (5, 7, 8, 11, 12, 13, 14)
SHARES = (0.03, 0.14, 0.56, 0.02, 0.20, 0.03, 0.02)


@dataclass(frozen=True)
class Places:
    """Points on the map, all arrays of the same length.

    Attributes:
        latitude: degrees, of 5 to 14 decimals.
        longitude: degrees, as many.
        cell: position of the point's cell in `city_cells()`.
        suburb: row of the suburb in `suburbs()`.
    """

    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    cell: NDArray[np.int16]
    suburb: NDArray[np.int16]


def suburbs() -> pl.DataFrame:
    """Official suburbs: middle, size, how much they ask for and who is in charge there.

    A suburb with farmland around it has a second row for that.
    """
    return pl.read_csv((files("tools.synthetic") / "suburbs.csv").read_bytes())


def draw_places(count: int, rng: np.random.Generator) -> Places:
    """Draw `count` points in the City, dense where people live.

    Returns:
        The points; the share of each suburb follows its weight.
    """
    table = suburbs()
    inhabited = _inhabited(table)
    share = np.cumsum(table["weight"].to_numpy())
    suburb = np.searchsorted(share / share[-1], rng.random(count), side="right").astype(np.int16)
    centres = table.select("longitude", "latitude").to_numpy()
    spread = table["spread_km"].to_numpy()
    points = np.empty((count, 2))
    cell = np.full(count, -1, dtype=np.int16)
    left = np.arange(count)
    while left.size:
        at = suburb[left]
        offset = rng.standard_normal((left.size, 2)) * spread[at, None] / DEGREE
        drawn = np.searchsorted(np.cumsum(SHARES), rng.random(left.size), side="right")
        points[left] = centres[at] + offset
        for group, decimals in enumerate(DECIMALS):
            rows = left[drawn == group]
            points[rows] = np.round(points[rows], decimals)
        pairs = zip(points[left, 1].tolist(), points[left, 0].tolist(), strict=True)
        found = (inhabited.get(h3.latlng_to_cell(lat, lon, RESOLUTION), -1) for lat, lon in pairs)
        cell[left] = np.fromiter(found, dtype=np.int16, count=left.size)
        left = left[cell[left] < 0]
    return Places(points[:, 1].copy(), points[:, 0].copy(), cell, suburb)


def _inhabited(table: pl.DataFrame) -> dict[str, int]:
    """The City's cells that anyone asks from, with their place in `city_cells()`.

    They are those with the most people expected, give or take: settlement has no smooth edge. The
    same in every bucket.
    """
    cells = city_cells()
    here = np.array([h3.cell_to_latlng(cell)[::-1] for cell in cells])
    centres = table.select("longitude", "latitude").to_numpy()
    spread = table["spread_km"].to_numpy()
    apart = (((here[:, None] - centres) * DEGREE) ** 2).sum(axis=2) / spread**2
    density = (table["weight"].to_numpy() / spread**2 * np.exp(-apart / 2)).sum(axis=1)
    density *= np.exp(ROUGHNESS * np.random.default_rng(RESOLUTION).standard_normal(len(cells)))
    first = np.argsort(-density, kind="stable")[:INHABITED]
    return {cells[k]: int(k) for k in sorted(first)}
