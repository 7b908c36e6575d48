"""Other ways to do what the transform stage does, for `benchmarks.transform` to time.

    python -m benchmarks.joins METHOD BUCKET OUT

Each is written from the description of its method alone, reads a bucket and writes into a folder.
"""

import gzip
import sys
from pathlib import Path

REQUESTS, REFERENCE = "sr.csv.gz", "sr_hex.csv.gz"
HEXAGONS = "city-hex-polygons-8.geojson"
TEXT = {"notification_number": str, "reference_number": str}
INDEX = "h3_level8_index"


def floor(bucket: Path, out: Path) -> None:
    """Read the requests with polars and write them as Parquet, nothing else."""
    import polars as pl

    pl.read_csv(bucket / REQUESTS, infer_schema=False).write_parquet(out / "requests.parquet")


def least(bucket: Path, out: Path) -> None:
    """What no join can do without: read both tables, find cells, compare, write; no checks."""
    import h3
    import polars as pl

    from capetown.requests.reader import CATEGORIES, CATEGORY

    def cells(points: pl.Series) -> pl.Series:
        valid = points.struct.field("latitude").abs() <= 90
        found = [
            h3.latlng_to_cell(point["latitude"], point["longitude"], 8) if fine else None
            for point, fine in zip(points, valid, strict=True)
        ]
        return pl.Series(found, dtype=pl.String)

    types = dict.fromkeys(CATEGORIES, CATEGORY)
    times, places = ("creation_timestamp", "completion_timestamp"), ("latitude", "longitude")
    requests, reference = (
        pl.scan_csv(bucket / name, infer_schema=False, schema_overrides=types)
        for name in (REQUESTS, REFERENCE)
    )
    joined = requests.with_columns(
        pl.col(times).str.head(19).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False),
        pl.col(places).cast(pl.Float64, strict=False),
    ).with_columns(pl.struct(places).map_batches(cells, pl.String).alias(INDEX))
    ours, theirs, _ = pl.collect_all(
        [
            joined.select(pl.col(INDEX).fill_null("0")),
            reference.select(INDEX),
            joined.sink_parquet(out / "requests.parquet", compression_level=1, lazy=True),
        ],
        engine="streaming",
    )
    print(f"{(ours[INDEX] != theirs[INDEX]).sum()} differ")


def nearest(bucket: Path, out: Path, *, located_only: bool = False) -> None:
    """The earlier solution: the nearest polygon, by geopandas in UTM zone 34 south."""
    import geopandas as gpd
    import pandas as pd

    table = _numbers(pd.read_csv(bucket / REQUESTS, dtype=TEXT, low_memory=False))
    polygons = gpd.read_file(bucket / HEXAGONS)[["index", "geometry"]].to_crs("EPSG:32734")
    rows = table.dropna(subset=["latitude", "longitude"]) if located_only else table
    places = gpd.points_from_xy(rows["longitude"], rows["latitude"], crs="EPSG:4326")
    points = gpd.GeoDataFrame(rows, geometry=places).to_crs("EPSG:32734")
    joined = points.sjoin_nearest(polygons, how="left")
    cells = joined[~joined.index.duplicated()]["index"].where(rows["latitude"].notna())
    table[INDEX] = cells.reindex(table.index).fillna("0")
    table.to_parquet(out / "requests.parquet")


def nearest_located(bucket: Path, out: Path) -> None:
    """The same, spared the rows without coordinates, for which GEOS compares every polygon."""
    nearest(bucket, out, located_only=True)


def peers(bucket: Path, out: Path, *, csv: bool = False) -> None:
    """The best other public solutions: pandas, a loop over h3, a merge with the reference."""
    import h3
    import pandas as pd

    table = _numbers(pd.read_csv(bucket / REQUESTS, dtype=TEXT, low_memory=False))
    reference = pd.read_csv(bucket / REFERENCE, dtype=TEXT, low_memory=False)
    table[INDEX] = [
        "0" if pd.isna(north) or pd.isna(east) else h3.latlng_to_cell(north, east, 8)
        for north, east in zip(table["latitude"], table["longitude"], strict=True)
    ]
    merged = table.merge(reference, on="notification_number", how="left", suffixes=("", "_theirs"))
    print(f"{(merged[INDEX] != merged[f'{INDEX}_theirs']).sum()} differ")
    if csv:
        with gzip.open(out / REFERENCE, "wt", compresslevel=1) as file:
            table.to_csv(file, index=False)
    else:
        table.to_parquet(out / "requests.parquet")


def peers_csv(bucket: Path, out: Path) -> None:
    """The same, written as the City publishes it."""
    peers(bucket, out, csv=True)


def _numbers(table: "pd.DataFrame") -> "pd.DataFrame":  # type: ignore[name-defined]  # noqa: F821
    """Coordinates as numbers on Earth, the damaged ones as missing: the methods know no better."""
    import pandas as pd

    for name, limit in (("latitude", 90), ("longitude", 180)):
        numbers = pd.to_numeric(table[name], errors="coerce")
        table[name] = numbers.where(numbers.abs() <= limit)
    return table


METHODS = {
    method.__name__: method for method in (floor, least, nearest, nearest_located, peers, peers_csv)
}

if __name__ == "__main__":
    METHODS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
