"""The labelled tiles on the map: hexagon, centre and outline of each located tile."""

from collections.abc import Sequence
from pathlib import Path

import h3
import pandas as pd
import pyarrow as pa
import shapely

from capetown.city import CLASSES, RESOLUTION
from capetown.geoparquet import GEOMETRY
from capetown.imagery.georeference import Outline
from capetown.layers import Layer, write_layer

# From the table of all tiles.
COPIED = ["path", "label", "fold", "group", "location_source"]
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in [*COPIED, "hexagon"]), ("has_pool", pa.int64()),
        ("longitude", pa.float64()), ("latitude", pa.float64()), (GEOMETRY, pa.binary()),
    ]
)  # fmt: skip
LAYER = Layer(
    "labelled_tiles", "Labelled tiles", "has_pool", [0, 1], ["without a pool", "with a pool"],
    most=1, edges=False,
)  # fmt: skip


def write_located(tiles: pd.DataFrame, outlines: Sequence[Outline | None], folder: Path) -> None:
    """Write the located ones of a table of tiles as GeoParquet and as GeoPackage.

    - `path`, `label`, `fold`, `group`, `location_source`: as in the table.
    - `hexagon`: the H3 cell of the tile's centre, resolution `capetown.city.RESOLUTION`.
    - `has_pool`: 1 or 0, by the label.
    - `longitude`, `latitude`: the centre in WGS84.
    - `geometry`: the outline in WGS84.
    """
    rows = [
        {**row, "hexagon": hexagon_of(place), "has_pool": int(row["label"] == CLASSES[1]),
         "longitude": place.longitude,
         "latitude": place.latitude, GEOMETRY: shapely.to_wkb(place.polygon())}
        for row, place in zip(tiles[COPIED].to_dict("records"), outlines, strict=True)
        if place
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, SCHEMA)
    for suffix in (".parquet", ".gpkg"):
        write_layer([table], SCHEMA, folder / f"tiles{suffix}", LAYER)


def hexagon_of(place: Outline) -> str:
    """The H3 cell of a tile's centre."""
    return str(h3.latlng_to_cell(place.latitude, place.longitude, RESOLUTION))
