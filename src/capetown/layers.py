"""Write a table of polygons as a file that GIS programs and spreadsheets open.

The suffix chooses the format: GeoParquet 1.1, GeoPackage, GeoJSON (RFC 7946), or CSV with WKT. All
are in WGS84, longitude first. Longitudes beyond 180 stay in GeoParquet; elsewhere the polygon has
two parts.

A GeoPackage also holds its style, which QGIS applies. Its polygons are all multipolygons, because
ArcGIS wants one type of geometry in a layer. Its column `index` is named `h3_index`, because SQL
reserves that word.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import shapely

from capetown.errors import CapetownError
from capetown.geoparquet import GEOMETRY, write_tables
from capetown.imagery.antimeridian import cut_at_180
from capetown.legend import EDGE, QUANTITIES
from capetown.storage import FORMULA, check_replaceable, written_whole

# The same tables give the same bytes, so a GeoPackage names no time of its own.
NO_TIME = "1970-01-01T00:00:00.000Z"
# As QGIS makes it.
STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
    f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
    owner TEXT(30), ui TEXT(30), update_time DATETIME
)
"""


class Layer(NamedTuple):
    """The name of a layer, and its classes by the values of one column.

    Attributes:
        name: of the table; GIS programs show it.
        title: a description in a few words.
        column: the number that chooses a polygon's class; none is drawn without it.
        bounds: lower bounds of the classes, up to `legend.STEPS`.
        words: the classes, in words.
        most: upper bound of the last class.
        edges: True if a line divides the polygons.
    """

    name: str
    title: str
    column: str
    bounds: Sequence[float]
    words: Sequence[str]
    most: float
    edges: bool


def check_suffix(out: str) -> None:
    """Refuse a file whose suffix names none of the formats."""
    if Path(out).suffix not in SUFFIXES:
        *others, last = SUFFIXES
        raise CapetownError(f"not {', '.join(others)} or {last}", where=f"--out {out}")


def write_layer(tables: Iterable[pa.Table], schema: pa.Schema, path: Path, layer: Layer) -> None:
    """Write tables one after the other into one local file, which appears when it is whole.

    Args:
        tables: each with `schema`. The column ``geometry`` has WKB of polygons, or nulls.
        schema: of the tables.
        path: ends in one of `SUFFIXES`.
        layer: its name and its look, for a GeoPackage.

    Raises:
        OSError: the file cannot be written.
        CapetownError: the file must not be replaced.
    """
    with written_whole(path) as part:
        if path.suffix == ".gpkg":
            _write_geopackage(tables, schema, part, layer)
        else:
            with part.open("wb") as file:
                if path.suffix == ".parquet":
                    write_tables(tables, schema, file)
                else:
                    WRITERS[path.suffix](tables, file)
        check_replaceable(path)


def write_csv(tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    """Write tables one after the other, outlines as WKT, and no text that starts a formula."""
    for number, table in enumerate(tables):
        wkt = shapely.to_wkt(_polygons(table), rounding_precision=-1)
        frame = pl.DataFrame(table.drop_columns(GEOMETRY))
        frame = frame.with_columns(pl.Series(GEOMETRY, wkt.tolist(), dtype=pl.String))
        frame = frame.with_columns(pl.col(pl.String).str.replace(FORMULA, "'$1"))
        # polars would report a closed pipe as an error of its own.
        file.write(frame.write_csv(include_header=number == 0).encode())


def _write_geojson(tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    """Write one feature a line. GDAL would leave a file cut short by a full disk unnoticed."""
    file.write(b'{"type": "FeatureCollection", "features": [')
    separator = "\n"
    for table in tables:
        outlines = shapely.to_geojson(_polygons(table))
        rows = table.drop_columns(GEOMETRY).to_pylist()
        for outline, row in zip(outlines, rows, strict=True):
            geometry, properties = outline or "null", json.dumps(row, allow_nan=False)
            file.write(
                f'{separator}{{"type": "Feature", "geometry": {geometry}, '
                f'"properties": {properties}}}'.encode()
            )
            separator = ",\n"
    file.write(b"\n]}\n")


WRITERS: dict[str, Callable[[Iterable[pa.Table], IO[bytes]], None]] = {
    ".geojson": _write_geojson,
    ".csv": write_csv,
}
SUFFIXES = (".parquet", ".gpkg", *WRITERS)


def _polygons(table: pa.Table) -> npt.NDArray[np.object_]:
    """The polygons of a table; in two parts where they cross the antimeridian."""
    polygons: npt.NDArray[np.object_] = shapely.from_wkb(
        table[GEOMETRY].to_numpy(zero_copy_only=False)
    )
    beyond = shapely.bounds(polygons)[:, 2] > 180
    polygons[beyond] = [cut_at_180(polygon) for polygon in polygons[beyond]]
    return polygons


def _write_geopackage(
    tables: Iterable[pa.Table], schema: pa.Schema, part: Path, layer: Layer
) -> None:
    # Imported here: it takes as long as the rest of a command, and only this format needs it.
    from pyogrio import set_gdal_config_options
    from pyogrio.raw import write_arrow

    fields = pa.schema([f.with_name("h3_index") if f.name == "index" else f for f in schema])
    failed: list[BaseException] = []
    rows = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        try:
            for table in tables:
                rows += len(table)
                multi = _as_multipolygons(table).rename_columns(fields.names)
                # A batch of another schema would end the process.
                yield from multi.cast(fields).to_batches()
        except (Exception, KeyboardInterrupt) as error:
            failed.append(error)  # it would reach us without its text
            raise

    # A folder of its own takes the files that SQLite puts beside a database.
    with TemporaryDirectory(dir=part.parent, prefix=".capetown-") as folder:
        made = Path(folder, "layer.gpkg").absolute()
        set_gdal_config_options({"OGR_CURRENT_DATE": NO_TIME})
        reader = pa.RecordBatchReader.from_batches(fields, batches())
        try:
            write_arrow(
                reader, made, layer=layer.name, driver="GPKG", geometry_name=GEOMETRY,
                geometry_type="MultiPolygon", crs="EPSG:4326", dataset_options={"VERSION": "1.2"},
                layer_options={"IDENTIFIER": layer.title, "GEOMETRY_NAME": GEOMETRY},
            )  # fmt: skip
            with closing(sqlite3.connect(made)) as db, db:
                _complete(db, layer, rows)
        except (RuntimeError, sqlite3.Error) as error:  # RuntimeError is the base of pyogrio's
            why = str(error).rpartition("failed: ")[2]
            raise failed[0] if failed else OSError(f"{why}; is the disk full?") from error
        made.replace(part)


def _complete(db: sqlite3.Connection, layer: Layer, rows: int) -> None:
    """Add the style. Refuse a file without all rows or index: GDAL fails silently at its end."""
    found, outlines = db.execute(
        f'SELECT count(*), count("{GEOMETRY}") FROM "{layer.name}"'
    ).fetchone()
    [indexed] = db.execute(f'SELECT count(*) FROM "rtree_{layer.name}_{GEOMETRY}_rowid"').fetchone()
    if (found, indexed) != (rows, outlines):
        raise OSError(f"{found} of {rows} rows were written, and {indexed} of them indexed")
    db.execute(STYLES)
    db.execute(
        "INSERT INTO layer_styles VALUES (1, '', '', ?, ?, ?, ?, NULL, TRUE, ?, '', NULL, ?)",
        (layer.name, GEOMETRY, layer.name, as_qml(layer), layer.title, NO_TIME),
    )
    db.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', ?)",
        (NO_TIME,),
    )


def _as_multipolygons(table: pa.Table) -> pa.Table:
    polygons = _polygons(table)
    single = shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON
    polygons[single] = shapely.multipolygons(polygons[single][:, None])
    wkb = pa.array(shapely.to_wkb(polygons).tolist(), pa.binary())
    return table.set_column(table.schema.get_field_index(GEOMETRY), GEOMETRY, wkb)


def as_qml(layer: Layer) -> str:
    """The layer's style for QGIS 3.22 and later."""
    # QGIS counts a value in the first class that ends at or after it.
    uppers = [math.nextafter(bound, -math.inf) for bound in layer.bounds[1:]]
    classes = list(zip(layer.bounds, [*uppers, layer.most], layer.words, strict=True))
    ranges = "".join(
        f'<range symbol="{n}" lower="{low!r}" upper="{high!r}" label="{words}" render="true"/>'
        for n, (low, high, words) in enumerate(classes)
    )
    symbols = "".join(
        f'<symbol name="{n}" type="fill" alpha="1"><layer class="SimpleFill" enabled="1">'
        f'<Option type="Map">{_options(QUANTITIES[n][0], layer.edges)}</Option></layer></symbol>'
        for n in range(len(classes))
    )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
        '<qgis version="3.22.0" styleCategories="Symbology"><renderer-v2 type="graduatedSymbol" '
        f'attr="{layer.column}" graduatedMethod="GraduatedColor" symbollevels="0">'
        f"<ranges>{ranges}</ranges><symbols>{symbols}</symbols></renderer-v2></qgis>"
    )


def _options(fill: str, edges: bool) -> str:
    """The options of a symbol. Lines are in millimetres."""
    options = {
        "color": _rgba(fill), "style": "solid", "outline_color": _rgba(EDGE[0]),
        "outline_style": "solid" if edges else "no", "outline_width": "0.2",
        "outline_width_unit": "MM",
    }  # fmt: skip
    return "".join(
        f'<Option type="QString" name="{name}" value="{value}"/>' for name, value in options.items()
    )


def _rgba(colour: str) -> str:
    return ",".join(map(str, [*bytes.fromhex(colour[1:]), 255]))
