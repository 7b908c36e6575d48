"""The labelled tiles on the map: hexagon, centre and outline of each located tile."""

from collections.abc import Collection, Sequence
from pathlib import Path

import h3
import pandas as pd
import pyarrow as pa
import shapely

from capetown.city import NAME, RESOLUTION
from capetown.geoparquet import GEOMETRY, write_tables
from capetown.imagery.georeference import Outline
from capetown.pools.dataset.listing import Tile
from capetown.pools.dataset.locations import Locations, note

# From the table of all tiles.
COPIED = ["path", "label", "fold", "group", "location_source"]
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in [*COPIED, "hexagon"]),
        ("longitude", pa.float64()), ("latitude", pa.float64()), (GEOMETRY, pa.binary()),
    ]
)  # fmt: skip


def write_located(tiles: pd.DataFrame, outlines: Sequence[Outline | None], path: Path) -> None:
    """Write the located ones of a table of tiles as GeoParquet.

    - `path`, `label`, `fold`, `group`, `location_source`: as in the table.
    - `hexagon`: the H3 cell of the tile's centre, resolution `capetown.city.RESOLUTION`.
    - `longitude`, `latitude`: the centre in WGS84.
    - `geometry`: the outline in WGS84.
    """
    rows = [
        {**row, "hexagon": hexagon_of(place), "longitude": place.longitude,
         "latitude": place.latitude, GEOMETRY: shapely.to_wkb(place.polygon())}
        for row, place in zip(tiles[COPIED].to_dict("records"), outlines, strict=True)
        if place
    ]  # fmt: skip
    with path.open("wb") as file:
        write_tables([pa.Table.from_pylist(rows, SCHEMA)], SCHEMA, file)


def hexagon_of(place: Outline) -> str:
    """The H3 cell of a tile's centre."""
    return str(h3.latlng_to_cell(place.latitude, place.longitude, RESOLUTION))


def outside(tiles: Sequence[Tile], locations: Locations, hexagons: Collection[str]) -> str:
    """A line about the tiles outside all hexagons, such as those in the sea; empty without any."""
    cells = set(hexagons)
    found = [
        f"by {source}" if place and hexagon_of(place) not in cells else ""
        for place, source in zip(locations.outlines, locations.sources, strict=True)
    ]
    paths = [tile.path for tile in tiles]
    return note(f"lie outside all hexagons of {NAME}", paths, found) if any(found) else ""
